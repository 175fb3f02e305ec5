//! Background work: leases, and what becomes of a clip.

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};
use tracing::debug;

use crest_core::event::Event;
use crest_core::highlight::HighlightState;
use crest_core::job::{Job, JobKind, JobState};
use crest_core::store::{ClipResult, Jobs};
use crest_core::{Error, JobId, OrganizationId, Result, WallTime};

use crate::row::{broken, db, get, get_named, get_u32, int};
use crate::{SqliteStore, outbox};

fn parse_state(name: &str) -> Option<JobState> {
    [JobState::Queued, JobState::Running, JobState::Done, JobState::Failed, JobState::Cancelled]
        .into_iter()
        .find(|state| state.name() == name)
}

/// Adds a job that is due at once; where it was added before, whatever became of it, it stays.
pub(crate) async fn enqueue(
    tx: &mut Transaction<'_, Sqlite>,
    organization: &OrganizationId,
    kind: JobKind,
    subject: &str,
    now: WallTime,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO jobs (id, organization_id, kind, subject, state, attempt, due_at, created_at) \
         VALUES (?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(JobId::derive(kind.name(), subject).as_str())
    .bind(organization.as_str())
    .bind(kind.name())
    .bind(subject)
    .bind(JobState::Queued.name())
    .bind(now.0)
    .bind(now.0)
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    Ok(())
}

/// Cancels a job whose subject is gone. A worker that has it finishes into nothing.
pub(crate) async fn withdraw(tx: &mut Transaction<'_, Sqlite>, kind: JobKind, subject: &str) -> Result<()> {
    sqlx::query(
        "UPDATE jobs SET state = ?, reason = ?, leased_until = NULL WHERE id = ? AND state IN ('queued', 'running')",
    )
    .bind(JobState::Cancelled.name())
    .bind("its subject was deleted")
    .bind(JobId::derive(kind.name(), subject).as_str())
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    Ok(())
}

/// Moves a job on if its state allows that: `false`, and nothing changed, where it does not, for then
/// another worker or a deletion came first.
async fn settle(
    tx: &mut Transaction<'_, Sqlite>,
    id: &JobId,
    to: JobState,
    due_at: Option<WallTime>,
    reason: Option<&str>,
) -> Result<bool> {
    let row = sqlx::query("SELECT state FROM jobs WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(db)?
        .ok_or_else(|| Error::not_found(format!("there is no job {id}")))?;
    let state = get_named(&row, "state", parse_state)?;
    if !state.can_become(to) {
        debug!(job_id = %id, state = state.name(), to = to.name(), "the job moved on without this worker");
        return Ok(false);
    }
    sqlx::query(
        "UPDATE jobs SET state = ?, due_at = COALESCE(?, due_at), reason = ?, leased_until = NULL WHERE id = ?",
    )
    .bind(to.name())
    .bind(due_at.map(|at| at.0))
    .bind(reason)
    .bind(id.as_str())
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    Ok(true)
}

/// Moves the job's highlight to `to` with the revision that `event` tells. `false` where its state
/// does not allow that.
async fn settle_highlight(
    tx: &mut Transaction<'_, Sqlite>,
    job: &JobId,
    to: HighlightState,
    reason: Option<&str>,
    event: &Event,
) -> Result<bool> {
    let row = sqlx::query(
        "SELECT h.id, h.state FROM jobs j JOIN highlights h ON h.id = j.subject \
         AND h.organization_id = j.organization_id WHERE j.id = ? AND j.kind = ?",
    )
    .bind(job.as_str())
    .bind(JobKind::Clip.name())
    .fetch_optional(&mut **tx)
    .await
    .map_err(db)?
    .ok_or_else(|| Error::not_found(format!("job {job} is not about a highlight")))?;
    let id: String = get(&row, "id")?;
    if event.subject != id {
        return Err(Error::ours(format!("job {job} is about {id}, its event about {}", event.subject)));
    }
    if !get_named(&row, "state", HighlightState::parse)?.can_become(to) {
        return Ok(false);
    }
    sqlx::query("UPDATE highlights SET state = ?, revision = ?, reason = ? WHERE id = ?")
        .bind(to.name())
        .bind(int(event.revision)?)
        .bind(reason)
        .bind(&id)
        .execute(&mut **tx)
        .await
        .map_err(db)?;
    Ok(true)
}

#[async_trait]
impl Jobs for SqliteStore {
    async fn lease_job(&self, kind: JobKind, now: WallTime, until: WallTime) -> Result<Option<Job>> {
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "UPDATE jobs SET state = 'running', attempt = attempt + 1, leased_until = ? WHERE id = \
             (SELECT id FROM jobs WHERE kind = ? AND ((state = 'queued' AND due_at <= ?) \
              OR (state = 'running' AND leased_until <= ?)) ORDER BY due_at, id LIMIT 1) \
             RETURNING id, organization_id, kind, subject, attempt",
        )
        .bind(until.0)
        .bind(kind.name())
        .bind(now.0)
        .bind(now.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(db)?;
        let Some(row) = row else { return Ok(None) };
        let job = Job {
            id: JobId::from_raw(get::<String>(&row, "id")?),
            organization_id: OrganizationId::from_raw(get::<String>(&row, "organization_id")?),
            kind,
            subject: get(&row, "subject")?,
            attempt: get_u32(&row, "attempt").map_err(|_| broken("attempt"))?,
        };
        tx.commit().await.map_err(db)?;
        Ok(Some(job))
    }

    async fn requeue_job(&self, id: &JobId, at: WallTime, reason: &str, attempted: bool) -> Result<()> {
        let mut tx = self.write().await?;
        if settle(&mut tx, id, JobState::Queued, Some(at), Some(reason)).await? && !attempted {
            sqlx::query("UPDATE jobs SET attempt = MAX(attempt - 1, 0) WHERE id = ?")
                .bind(id.as_str())
                .execute(&mut *tx)
                .await
                .map_err(db)?;
        }
        tx.commit().await.map_err(db)
    }

    async fn finish_clip(&self, id: &JobId, result: &ClipResult, event: &Event) -> Result<()> {
        let mut tx = self.write().await?;
        if settle(&mut tx, id, JobState::Done, None, None).await?
            && settle_highlight(&mut tx, id, HighlightState::Ready, None, event).await?
        {
            sqlx::query(
                "UPDATE highlights SET clip = ?, thumbnail = ?, clip_start_ns = ?, clip_duration_ns = ? WHERE id = ?",
            )
            .bind(&result.clip)
            .bind(&result.thumbnail)
            .bind(result.clip.as_ref().map(|_| result.clip_start.nanos()))
            .bind(result.clip.as_ref().map(|_| result.clip_duration.nanos()))
            .bind(&event.subject)
            .execute(&mut *tx)
            .await
            .map_err(db)?;
            outbox::insert_event(&mut tx, event).await?;
        }
        tx.commit().await.map_err(db)
    }

    async fn fail_clip(&self, id: &JobId, reason: &str, event: &Event) -> Result<()> {
        let mut tx = self.write().await?;
        if settle(&mut tx, id, JobState::Failed, None, Some(reason)).await?
            && settle_highlight(&mut tx, id, HighlightState::Failed, Some(reason), event).await?
        {
            outbox::insert_event(&mut tx, event).await?;
        }
        tx.commit().await.map_err(db)
    }

    async fn cancel_job(&self, id: &JobId, reason: &str) -> Result<()> {
        let mut tx = self.write().await?;
        settle(&mut tx, id, JobState::Cancelled, None, Some(reason)).await?;
        tx.commit().await.map_err(db)
    }
}
