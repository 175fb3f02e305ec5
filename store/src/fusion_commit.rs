//! What fusion commits: decisions with their events and clip jobs, in the caller's transaction.

use sqlx::{Sqlite, Transaction};
use tracing::{debug, error};

use crest_core::event::Event;
use crest_core::highlight::{Decision, Highlight, HighlightState};
use crest_core::job::JobKind;
use crest_core::store::Snapshot;
use crest_core::{Error, Result, WallTime};

use crate::row::{db, get_named, get_u64, int, session};
use crate::{jobs, outbox};

/// Applies one decision. One that is there already, or that the highlight's state forbids, changes
/// nothing, and its event is not told.
pub(crate) async fn apply(
    tx: &mut Transaction<'_, Sqlite>,
    decision: &Decision,
    event: Option<&Event>,
    now: WallTime,
) -> Result<()> {
    let highlight = decision.highlight();
    let stored = sqlx::query("SELECT state, revision FROM highlights WHERE id = ? AND organization_id = ?")
        .bind(highlight.id.as_str())
        .bind(highlight.organization_id.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(db)?;
    let applied = match stored {
        Some(row) => {
            let state = get_named(&row, "state", HighlightState::parse)?;
            if get_u64(&row, "revision")? >= highlight.revision || !state.can_become(highlight.state) {
                debug!(highlight_id = %highlight.id, revision = highlight.revision, state = state.name(),
                    "decision is there already");
                false
            } else {
                update(tx, highlight).await?;
                true
            }
        }
        None => insert(tx, highlight, now).await?,
    };
    if !applied {
        return Ok(());
    }
    if let Some(event) = event {
        outbox::insert_event(tx, event).await?;
    }
    match decision {
        Decision::Finalized { .. } => {
            jobs::enqueue(tx, &highlight.organization_id, JobKind::Clip, highlight.id.as_str(), now).await
        }
        Decision::Deleted { .. } => jobs::withdraw(tx, JobKind::Clip, highlight.id.as_str()).await,
        Decision::Detected { .. } | Decision::Updated { .. } => Ok(()),
    }
}

/// `false` where the highlight's session is unknown: nobody could be shown it, and refusing the
/// whole commit would stop fusion for every stream.
async fn insert(tx: &mut Transaction<'_, Sqlite>, highlight: &Highlight, now: WallTime) -> Result<bool> {
    let (dimensions, factors) = json(highlight)?;
    let added = sqlx::query(
        "INSERT INTO highlights (id, organization_id, stream_id, session, state, revision, start_ns, end_ns, peak_ns, \
         score, kind, dimensions, factors, dimension_set_version, reason, detected_at) \
         SELECT ?, organization_id, stream_id, session, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM sessions \
         WHERE stream_id = ? AND session = ? AND organization_id = ?",
    )
    .bind(highlight.id.as_str())
    .bind(highlight.state.name())
    .bind(int(highlight.revision)?)
    .bind(highlight.start.nanos())
    .bind(highlight.end.nanos())
    .bind(highlight.peak.nanos())
    .bind(highlight.score)
    .bind(&highlight.kind)
    .bind(dimensions)
    .bind(factors)
    .bind(int(highlight.dimension_set_version)?)
    .bind(&highlight.reason)
    .bind(now.0)
    .bind(highlight.stream_id.as_str())
    .bind(session(highlight.session))
    .bind(highlight.organization_id.as_str())
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    if added.rows_affected() == 0 {
        error!(highlight_id = %highlight.id, stream_id = %highlight.stream_id, session = %highlight.session,
            "a decision names a session that the store does not know; it is left out");
    }
    Ok(added.rows_affected() > 0)
}

async fn update(tx: &mut Transaction<'_, Sqlite>, highlight: &Highlight) -> Result<()> {
    let (dimensions, factors) = json(highlight)?;
    sqlx::query(
        "UPDATE highlights SET state = ?, revision = ?, start_ns = ?, end_ns = ?, peak_ns = ?, score = ?, kind = ?, \
         dimensions = ?, factors = ?, dimension_set_version = ?, reason = ? WHERE id = ? AND organization_id = ?",
    )
    .bind(highlight.state.name())
    .bind(int(highlight.revision)?)
    .bind(highlight.start.nanos())
    .bind(highlight.end.nanos())
    .bind(highlight.peak.nanos())
    .bind(highlight.score)
    .bind(&highlight.kind)
    .bind(dimensions)
    .bind(factors)
    .bind(int(highlight.dimension_set_version)?)
    .bind(&highlight.reason)
    .bind(highlight.id.as_str())
    .bind(highlight.organization_id.as_str())
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    Ok(())
}

fn json(highlight: &Highlight) -> Result<(String, String)> {
    let fail = |e: serde_json::Error| Error::ours(format!("highlight {} cannot be written: {e}", highlight.id));
    Ok((
        serde_json::to_string(&highlight.dimensions).map_err(fail)?,
        serde_json::to_string(&highlight.factors).map_err(fail)?,
    ))
}

/// Keeps a snapshot, replacing the stream's earlier one.
pub(crate) async fn keep_snapshot(tx: &mut Transaction<'_, Sqlite>, snapshot: &Snapshot) -> Result<()> {
    let kept = sqlx::query(
        "INSERT INTO fusion_snapshots (stream_id, organization_id, position, version, state) \
         SELECT id, organization_id, ?, ?, ? FROM streams WHERE id = ? \
         ON CONFLICT (stream_id) DO UPDATE \
         SET position = excluded.position, version = excluded.version, state = excluded.state",
    )
    .bind(int(snapshot.position)?)
    .bind(i64::from(snapshot.version))
    .bind(&snapshot.state)
    .bind(snapshot.stream_id.as_str())
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    if kept.rows_affected() == 0 {
        error!(stream_id = %snapshot.stream_id, "a snapshot names a stream that the store does not know; it is left out");
    }
    Ok(())
}
