//! Highlights as they are read, and fusion's memory.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use crest_core::bus::Position;
use crest_core::highlight::{Highlight, HighlightState, StoredHighlight};
use crest_core::store::{FusionCommit, HighlightFilter, Highlights, Page, Paged, Snapshot};
use crest_core::{HighlightId, MediaTime, OrganizationId, Result, StreamId, WallTime};

use crate::row::{broken, db, from_json, get, get_media, get_named, get_session, get_u32, get_u64, get_wall, int};
use crate::{SqliteStore, fusion_commit, page};

/// The tenant of what belongs to all of them.
const ALL_TENANTS: &str = "*";

const SELECT: &str = "SELECT h.*, s.started_at AS session_started_at FROM highlights h \
     JOIN sessions s ON s.stream_id = h.stream_id AND s.session = h.session WHERE h.organization_id = ";

fn stored(row: &SqliteRow) -> Result<StoredHighlight> {
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

impl SqliteStore {
    /// The highest position of the signals log that is part of anything committed: what an earlier
    /// process had read, wherever the log itself ends now.
    pub async fn fusion_reached(&self) -> Result<Option<Position>> {
        let reached: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(position) FROM (SELECT position FROM fusion_position UNION ALL SELECT position FROM fusion_snapshots)",
        )
        .fetch_one(&self.readers)
        .await
        .map_err(db)?;
        reached.map(u64::try_from).transpose().map_err(|_| broken("position"))
    }
}

#[async_trait]
impl Highlights for SqliteStore {
    async fn commit_fusion(&self, commit: &FusionCommit, now: WallTime) -> Result<()> {
        let mut tx = self.write().await?;
        for (decision, event) in &commit.decisions {
            fusion_commit::apply(&mut tx, decision, event.as_ref(), now).await?;
        }
        for snapshot in &commit.snapshots {
            fusion_commit::keep_snapshot(&mut tx, snapshot).await?;
        }
        for stream in &commit.finished {
            sqlx::query("DELETE FROM fusion_snapshots WHERE stream_id = ?")
                .bind(stream.as_str())
                .execute(&mut *tx)
                .await
                .map_err(db)?;
        }
        if let Some(position) = commit.position {
            sqlx::query(
                "INSERT INTO fusion_position (organization_id, position) VALUES (?, ?) \
                 ON CONFLICT (organization_id) DO UPDATE SET position = excluded.position",
            )
            .bind(ALL_TENANTS)
            .bind(int(position)?)
            .execute(&mut *tx)
            .await
            .map_err(db)?;
        }
        tx.commit().await.map_err(db)
    }

    async fn fusion_state(&self) -> Result<(Vec<Snapshot>, Option<Position>)> {
        // One transaction, so that the snapshots and the position belong together.
        let mut tx = self.readers.begin().await.map_err(db)?;
        let rows =
            sqlx::query("SELECT * FROM fusion_snapshots ORDER BY stream_id").fetch_all(&mut *tx).await.map_err(db)?;
        let position: Option<i64> =
            sqlx::query_scalar("SELECT position FROM fusion_position WHERE organization_id = ?")
                .bind(ALL_TENANTS)
                .fetch_optional(&mut *tx)
                .await
                .map_err(db)?;
        let snapshots = rows
            .iter()
            .map(|row| {
                Ok(Snapshot {
                    stream_id: StreamId::from_raw(get::<String>(row, "stream_id")?),
                    position: get_u64(row, "position")?,
                    version: get_u32(row, "version")?,
                    state: get(row, "state")?,
                })
            })
            .collect::<Result<_>>()?;
        let position = position.map(u64::try_from).transpose().map_err(|_| broken("position"))?;
        Ok((snapshots, position))
    }

    async fn highlight(&self, organization: &OrganizationId, id: &HighlightId) -> Result<Option<StoredHighlight>> {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push_bind(organization.as_str()).push(" AND h.id = ").push_bind(id.as_str());
        let row = query.build().fetch_optional(&self.readers).await.map_err(db)?;
        row.as_ref().map(stored).transpose()
    }

    async fn highlights(
        &self,
        organization: &OrganizationId,
        filter: &HighlightFilter,
        page: &Page,
    ) -> Result<Paged<StoredHighlight>> {
        let cursor = page::Cursor::of(page)?;
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push_bind(organization.as_str());
        if let Some(stream) = &filter.stream {
            query.push(" AND h.stream_id = ").push_bind(stream.as_str());
        }
        match filter.state {
            Some(state) => query.push(" AND h.state = ").push_bind(state.name()),
            None => query.push(" AND h.state <> ").push_bind(HighlightState::Deleted.name()),
        };
        query.push(" AND (h.detected_at, h.id) < (").push_bind(cursor.rank).push(", ").push_bind(cursor.id);
        query.push(") ORDER BY h.detected_at DESC, h.id DESC LIMIT ").push_bind(page::fetch(page));
        let rows = query.build().fetch_all(&self.readers).await.map_err(db)?;
        let items = rows.iter().map(stored).collect::<Result<Vec<_>>>()?;
        Ok(page::cut(items, page, |h| (h.detected_at.0, h.highlight.id.to_string())))
    }
}
