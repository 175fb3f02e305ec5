//! What fusion commits: decisions with their events and clip jobs, and its memory, in the caller's
//! transaction and in the right of one claim.

use tracing::{debug, error};

use crest_core::bus::Partition;
use crest_core::highlight::{Decision, Highlight, HighlightState};
use crest_core::instance::InstanceId;
use crest_core::job::JobKind;
use crest_core::store::{Claim, Decided, Snapshot};
use crest_core::{Error, StreamId, WallTime};

use super::row::{get, get_named, get_u32, get_u64};
use super::{Tx, jobs, outbox};
use crate::transaction::Outcome;
use crate::values::{broken, int, session};

/// The tenant of what belongs to all of them.
pub(crate) const ALL_TENANTS: &str = "*";

/// Takes the partition over, and says up to where it needs no reading again.
pub(crate) async fn claim(
    tx: &mut Tx,
    partition: Partition,
    instance: &InstanceId,
    now: WallTime,
) -> Outcome<(Claim, Option<u64>)> {
    let row = sqlx::query(
        "INSERT INTO fusion_partitions (partition_number, organization_id, epoch, instance, claimed_at) \
         VALUES ($1, $2, 1, $3, $4) ON CONFLICT (partition_number) DO UPDATE \
         SET epoch = fusion_partitions.epoch + 1, instance = excluded.instance, claimed_at = excluded.claimed_at \
         RETURNING epoch, position",
    )
    .bind(i64::from(partition))
    .bind(ALL_TENANTS)
    .bind(instance.as_str())
    .bind(now.0)
    .fetch_one(&mut **tx)
    .await?;
    let position: Option<i64> = get(&row, "position")?;
    let offset = position.map(u64::try_from).transpose().map_err(|_| broken("position"))?;
    Ok((Claim { partition, epoch: get_u64(&row, "epoch")? }, offset))
}

/// Whether a claim is still the latest. It stays so until the transaction is over.
pub(crate) async fn holds(tx: &mut Tx, claim: &Claim) -> Outcome<bool> {
    let epoch: Option<i64> =
        sqlx::query_scalar(concat!("SELECT epoch FROM fusion_partitions WHERE partition_number = $1", lock_row!()))
            .bind(i64::from(claim.partition))
            .fetch_optional(&mut **tx)
            .await?;
    Ok(epoch == Some(int(claim.epoch)?))
}

/// Every snapshot of the partition's streams.
pub(crate) async fn snapshots(tx: &mut Tx, partition: Partition) -> Outcome<Vec<Snapshot>> {
    let rows = sqlx::query("SELECT * FROM fusion_snapshots WHERE partition_number = $1 ORDER BY stream_id")
        .bind(i64::from(partition))
        .fetch_all(&mut **tx)
        .await?;
    let snapshot = |row| {
        Ok(Snapshot {
            stream_id: StreamId::from_raw(get::<String>(row, "stream_id")?),
            offset: get_u64(row, "position")?,
            version: get_u32(row, "version")?,
            state: get(row, "state")?,
        })
    };
    rows.iter().map(snapshot).collect()
}

/// Notes up to where the partition needs no reading again.
pub(crate) async fn keep_offset(tx: &mut Tx, partition: Partition, offset: u64) -> Outcome<()> {
    sqlx::query("UPDATE fusion_partitions SET position = $1 WHERE partition_number = $2")
        .bind(int(offset)?)
        .bind(i64::from(partition))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Applies decisions in order.
pub(crate) async fn apply_all(tx: &mut Tx, decisions: &[Decided], now: WallTime) -> Outcome<()> {
    let mut owners: Vec<_> = decisions.iter().map(|decided| &decided.decision.highlight().organization_id).collect();
    owners.extend(decisions.iter().filter_map(|decided| decided.event.as_ref()).map(|event| &event.organization_id));
    outbox::lock_organizations(tx, &owners).await?;
    for decided in decisions {
        apply(tx, decided, now).await?;
    }
    Ok(())
}

/// Applies one decision. One that is there already, or that the highlight's state forbids, changes
/// nothing, and its event is not told.
async fn apply(tx: &mut Tx, decided: &Decided, now: WallTime) -> Outcome<()> {
    let Decided { decision, event, trace } = decided;
    let highlight = decision.highlight();
    let stored = sqlx::query(concat!(
        "SELECT state, revision FROM highlights WHERE id = $1 AND organization_id = $2",
        lock_row!()
    ))
    .bind(highlight.id.as_str())
    .bind(highlight.organization_id.as_str())
    .fetch_optional(&mut **tx)
    .await?;
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
        outbox::insert_event(tx, event, *trace).await?;
    }
    match decision {
        Decision::Finalized { .. } => {
            let (owner, subject) = (&highlight.organization_id, highlight.id.as_str());
            jobs::enqueue(tx, owner, JobKind::Clip, subject, *trace, now).await
        }
        Decision::Deleted { .. } => jobs::withdraw(tx, JobKind::Clip, highlight.id.as_str()).await,
        Decision::Detected { .. } | Decision::Updated { .. } => Ok(()),
    }
}

/// `false` where the highlight's session is unknown: nobody could be shown it, and refusing the
/// whole commit would stop fusion for every stream.
async fn insert(tx: &mut Tx, highlight: &Highlight, now: WallTime) -> Outcome<bool> {
    let (dimensions, factors) = json(highlight)?;
    let added = sqlx::query(
        "INSERT INTO highlights (id, organization_id, stream_id, session, state, revision, start_ns, end_ns, peak_ns, \
         score, kind, dimensions, factors, dimension_set_version, reason, detected_at) \
         SELECT $1, organization_id, stream_id, session, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 \
         FROM sessions WHERE stream_id = $14 AND session = $15 AND organization_id = $16",
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
    .await?;
    if added.rows_affected() == 0 {
        error!(highlight_id = %highlight.id, stream_id = %highlight.stream_id, session = %highlight.session,
            "a decision names a session that the store does not know; it is left out");
    }
    Ok(added.rows_affected() > 0)
}

async fn update(tx: &mut Tx, highlight: &Highlight) -> Outcome<()> {
    let (dimensions, factors) = json(highlight)?;
    sqlx::query(
        "UPDATE highlights SET state = $1, revision = $2, start_ns = $3, end_ns = $4, peak_ns = $5, score = $6, \
         kind = $7, dimensions = $8, factors = $9, dimension_set_version = $10, reason = $11 \
         WHERE id = $12 AND organization_id = $13",
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
    .await?;
    Ok(())
}

fn json(highlight: &Highlight) -> Outcome<(String, String)> {
    let fail = |e: serde_json::Error| Error::ours(format!("highlight {} cannot be written: {e}", highlight.id));
    Ok((
        serde_json::to_string(&highlight.dimensions).map_err(fail)?,
        serde_json::to_string(&highlight.factors).map_err(fail)?,
    ))
}

/// Keeps a snapshot, replacing the stream's earlier one.
pub(crate) async fn keep_snapshot(tx: &mut Tx, partition: Partition, snapshot: &Snapshot) -> Outcome<()> {
    let kept = sqlx::query(
        "INSERT INTO fusion_snapshots (stream_id, organization_id, partition_number, position, version, state) \
         SELECT id, organization_id, $1, $2, $3, $4 FROM streams WHERE id = $5 \
         ON CONFLICT (stream_id) DO UPDATE SET partition_number = excluded.partition_number, \
         position = excluded.position, version = excluded.version, state = excluded.state",
    )
    .bind(i64::from(partition))
    .bind(int(snapshot.offset)?)
    .bind(i64::from(snapshot.version))
    .bind(&snapshot.state)
    .bind(snapshot.stream_id.as_str())
    .execute(&mut **tx)
    .await?;
    if kept.rows_affected() == 0 {
        error!(stream_id = %snapshot.stream_id, "a snapshot names a stream that the store does not know; it is left out");
    }
    Ok(())
}
