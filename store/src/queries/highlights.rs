//! Highlights as they are read, and fusion's memory.

use async_trait::async_trait;
use sqlx::QueryBuilder;

use crest_core::bus::Partition;
use crest_core::highlight::{Highlight, HighlightState, StoredHighlight};
use crest_core::instance::InstanceId;
use crest_core::store::{Claimed, Committed, FusionCommit, HighlightFilter, Highlights, Page, Paged};
use crest_core::{HighlightId, MediaTime, OrganizationId, Result, StreamId, WallTime};

use super::row::{get, get_media, get_named, get_session, get_u64, get_wall};
use super::{Db, DbRow, DbStore, fusion_commit};
use crate::page;
use crate::transaction::{Outcome, Whose};
use crate::values::{broken, can_be_kept, from_json};

const SELECT: &str = "SELECT h.*, s.started_at AS session_started_at FROM highlights h \
     JOIN sessions s ON s.stream_id = h.stream_id AND s.session = h.session WHERE h.organization_id = ";

fn stored(row: &DbRow) -> Outcome<StoredHighlight> {
    let media = |column: &str| get::<Option<i64>>(row, column).map(|t| t.map(MediaTime::from_nanos));
    Ok(StoredHighlight {
        highlight: Highlight {
            id: HighlightId::from_raw(get::<String>(row, "id")?),
            organization_id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
            stream_id: StreamId::from_raw(get::<String>(row, "stream_id")?),
            session: get_session(row, "session")?,
            state: get_named(row, "state", HighlightState::parse)?,
            revision: get_u64(row, "revision")?,
            start: get_media(row, "start_ns")?,
            end: get_media(row, "end_ns")?,
            peak: get_media(row, "peak_ns")?,
            score: get(row, "score")?,
            kind: get(row, "kind")?,
            dimensions: from_json(get(row, "dimensions")?, |text| serde_json::from_str(text))?,
            factors: from_json(get(row, "factors")?, |text| serde_json::from_str(text))?,
            dimension_set_version: get_u64(row, "dimension_set_version")?,
            reason: get(row, "reason")?,
        },
        clip: get(row, "clip")?,
        thumbnail: get(row, "thumbnail")?,
        clip_start: media("clip_start_ns")?,
        clip_duration: media("clip_duration_ns")?,
        session_started_at: get_wall(row, "session_started_at")?,
        detected_at: get_wall(row, "detected_at")?,
    })
}

impl DbStore {
    /// The highest offset of partition 0 of the signals log that is part of anything committed: what an
    /// earlier process had read, wherever the log itself ends now.
    pub async fn fusion_reached(&self) -> Result<Option<u64>> {
        look!(self, Whose::All, |tx| {
            let reached: Option<i64> = sqlx::query_scalar(
                "SELECT MAX(position) FROM (SELECT position FROM fusion_partitions WHERE partition_number = 0 \
                 UNION ALL SELECT position FROM fusion_snapshots WHERE partition_number = 0) AS reached",
            )
            .fetch_one(&mut **tx)
            .await?;
            Ok(reached.map(u64::try_from).transpose().map_err(|_| broken("position"))?)
        })
    }
}

#[async_trait]
impl Highlights for DbStore {
    /// Done again it makes the first claim void: the one that is known is good.
    async fn claim_partition(&self, partition: Partition, instance: &InstanceId, now: WallTime) -> Result<Claimed> {
        change!(self, "claim_partition", Whose::All, |tx| {
            // Waits for a commit under way in the right of an earlier claim.
            let (claim, offset) = fusion_commit::claim(tx, partition, instance, now).await?;
            let snapshots = fusion_commit::snapshots(tx, partition).await?;
            Ok(Claimed { claim, snapshots, offset })
        })
    }

    /// Done again it finds its decisions there already and changes nothing else.
    async fn commit_fusion(&self, commit: &FusionCommit, now: WallTime) -> Result<Committed> {
        change!(self, "commit_fusion", Whose::All, |tx| {
            if !fusion_commit::holds(tx, &commit.claim).await? {
                return Ok(Committed::Fenced);
            }
            fusion_commit::apply_all(tx, &commit.decisions, now).await?;
            for snapshot in &commit.snapshots {
                fusion_commit::keep_snapshot(tx, commit.claim.partition, snapshot).await?;
            }
            for stream in &commit.finished {
                sqlx::query("DELETE FROM fusion_snapshots WHERE stream_id = $1 AND partition_number = $2")
                    .bind(stream.as_str())
                    .bind(i64::from(commit.claim.partition))
                    .execute(&mut **tx)
                    .await?;
            }
            if let Some(offset) = commit.offset {
                fusion_commit::keep_offset(tx, commit.claim.partition, offset).await?;
            }
            Ok(Committed::Kept)
        })
    }

    async fn highlight(&self, organization: &OrganizationId, id: &HighlightId) -> Result<Option<StoredHighlight>> {
        if !can_be_kept(id.as_str()) {
            return Ok(None);
        }
        look!(self, Whose::Of(organization), |tx| {
            let mut query = QueryBuilder::<Db>::new(SELECT);
            query.push_bind(organization.as_str()).push(" AND h.id = ").push_bind(id.as_str());
            let row = query.build().fetch_optional(&mut **tx).await?;
            row.as_ref().map(stored).transpose()
        })
    }

    async fn highlights(
        &self,
        organization: &OrganizationId,
        filter: &HighlightFilter,
        page: &Page,
    ) -> Result<Paged<StoredHighlight>> {
        let cursor = page::Cursor::of(page)?;
        if filter.stream.as_ref().is_some_and(|stream| !can_be_kept(stream.as_str())) {
            return Ok(Paged { items: Vec::new(), next: None });
        }
        let items = look!(self, Whose::Of(organization), |tx| {
            let mut query = QueryBuilder::<Db>::new(SELECT);
            query.push_bind(organization.as_str());
            if let Some(stream) = &filter.stream {
                query.push(" AND h.stream_id = ").push_bind(stream.as_str());
            }
            match filter.state {
                Some(state) => query.push(" AND h.state = ").push_bind(state.name()),
                None => query.push(" AND h.state <> ").push_bind(HighlightState::Deleted.name()),
            };
            query.push(" AND (h.detected_at, h.id) < (").push_bind(cursor.rank).push(", ").push_bind(&cursor.id);
            query.push(") ORDER BY h.detected_at DESC, h.id DESC LIMIT ").push_bind(page::fetch(page));
            let rows = query.build().fetch_all(&mut **tx).await?;
            rows.iter().map(stored).collect::<Outcome<Vec<_>>>()
        })?;
        Ok(page::cut(items, page, |h| (h.detected_at.0, h.highlight.id.to_string())))
    }
}
