//! Background work: leases, and what becomes of a clip.

use async_trait::async_trait;
use tracing::debug;

use crest_core::event::Event;
use crest_core::highlight::HighlightState;
use crest_core::job::{Job, JobKind, JobState};
use crest_core::store::{ClipResult, Jobs};
use crest_core::trace::Trace;
use crest_core::{Error, JobId, OrganizationId, Result, WallTime};

use super::row::{get, get_named, get_trace, get_u32};
use super::{DbStore, Tx, outbox};
use crate::transaction::{Outcome, Whose};
use crate::values::{int, trace as trace_text};

fn parse_state(name: &str) -> Option<JobState> {
    [JobState::Queued, JobState::Running, JobState::Done, JobState::Failed, JobState::Cancelled]
        .into_iter()
        .find(|state| state.name() == name)
}

/// Adds a job that is due at once; where it was added before, whatever became of it, it stays.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    organization: &OrganizationId,
    kind: JobKind,
    subject: &str,
    trace: Option<Trace>,
    now: WallTime,
) -> Outcome<()> {
    sqlx::query(
        "INSERT INTO jobs (id, organization_id, kind, subject, state, attempt, due_at, trace, created_at) \
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $6) ON CONFLICT (id) DO NOTHING",
    )
    .bind(JobId::derive(kind.name(), subject).as_str())
    .bind(organization.as_str())
    .bind(kind.name())
    .bind(subject)
    .bind(JobState::Queued.name())
    .bind(now.0)
    .bind(trace_text(trace))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Cancels a job whose subject is gone. A worker that has it finishes into nothing.
pub(crate) async fn withdraw(tx: &mut Tx, kind: JobKind, subject: &str) -> Outcome<()> {
    sqlx::query(
        "UPDATE jobs SET state = $1, reason = $2, leased_until = NULL WHERE id = $3 AND state IN ('queued', 'running')",
    )
    .bind(JobState::Cancelled.name())
    .bind("its subject was deleted")
    .bind(JobId::derive(kind.name(), subject).as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Moves a job on if its state allows that, and if it is still leased as `lease` says where that
/// matters: `false`, and nothing changed, where it does not, for then another worker or a deletion came
/// first.
async fn settle(
    tx: &mut Tx,
    id: &JobId,
    lease: Option<WallTime>,
    to: JobState,
    due_at: Option<WallTime>,
    reason: Option<&str>,
) -> Outcome<bool> {
    let row = sqlx::query(concat!("SELECT state, leased_until FROM jobs WHERE id = $1", lock_row!()))
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(|| Error::not_found(format!("there is no job {id}")))?;
    let state = get_named(&row, "state", parse_state)?;
    let leased_until: Option<i64> = get(&row, "leased_until")?;
    if !state.can_become(to) || lease.is_some_and(|mine| leased_until != Some(mine.0)) {
        debug!(job_id = %id, state = state.name(), to = to.name(), "the job moved on without this worker");
        return Ok(false);
    }
    sqlx::query(
        "UPDATE jobs SET state = $1, due_at = COALESCE($2, due_at), reason = $3, leased_until = NULL WHERE id = $4",
    )
    .bind(to.name())
    .bind(due_at.map(|at| at.0))
    .bind(reason)
    .bind(id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

/// Moves the job's highlight to `to` with the revision that `event` tells. `false` where its state
/// does not allow that.
async fn settle_highlight(
    tx: &mut Tx,
    job: &JobId,
    to: HighlightState,
    reason: Option<&str>,
    event: &Event,
) -> Outcome<bool> {
    let row = sqlx::query(concat!(
        "SELECT h.id, h.state FROM jobs j JOIN highlights h ON h.id = j.subject \
         AND h.organization_id = j.organization_id WHERE j.id = $1 AND j.kind = $2",
        lock_row!()
    ))
    .bind(job.as_str())
    .bind(JobKind::Clip.name())
    .fetch_optional(&mut **tx)
    .await?
    .ok_or_else(|| Error::not_found(format!("job {job} is not about a highlight")))?;
    let id: String = get(&row, "id")?;
    if event.subject != id {
        return Err(Error::ours(format!("job {job} is about {id}, its event about {}", event.subject)).into());
    }
    if !get_named(&row, "state", HighlightState::parse)?.can_become(to) {
        return Ok(false);
    }
    sqlx::query("UPDATE highlights SET state = $1, revision = $2, reason = $3 WHERE id = $4")
        .bind(to.name())
        .bind(int(event.revision)?)
        .bind(reason)
        .bind(&id)
        .execute(&mut **tx)
        .await?;
    Ok(true)
}

#[async_trait]
impl Jobs for DbStore {
    async fn lease_job(&self, kind: JobKind, now: WallTime, until: WallTime) -> Result<Option<Job>> {
        change!(self, "lease_job", Whose::All, |tx| {
            let row = sqlx::query(concat!(
                "UPDATE jobs SET state = 'running', attempt = attempt + 1, leased_until = $1 WHERE id = \
                 (SELECT id FROM jobs WHERE kind = $2 AND ((state = 'queued' AND due_at <= $3) \
                  OR (state = 'running' AND leased_until <= $3)) ORDER BY due_at, id LIMIT 1",
                skip_locked!(),
                ") RETURNING id, organization_id, subject, attempt, trace"
            ))
            .bind(until.0)
            .bind(kind.name())
            .bind(now.0)
            .fetch_optional(&mut **tx)
            .await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some(Job {
                id: JobId::from_raw(get::<String>(&row, "id")?),
                organization_id: OrganizationId::from_raw(get::<String>(&row, "organization_id")?),
                kind,
                subject: get(&row, "subject")?,
                attempt: get_u32(&row, "attempt")?,
                leased_until: until,
                trace: get_trace(&row, "trace")?,
            }))
        })
    }

    async fn renew_job(&self, job: &Job, until: WallTime) -> Result<bool> {
        change!(self, "renew_job", Whose::Of(&job.organization_id), |tx| {
            let renewed = sqlx::query(
                // It may have been done before, and the answer lost.
                "UPDATE jobs SET leased_until = $1 WHERE id = $2 AND state = 'running' AND attempt = $3 \
                 AND leased_until IN ($4, $1)",
            )
            .bind(until.0)
            .bind(job.id.as_str())
            .bind(i64::from(job.attempt))
            .bind(job.leased_until.0)
            .execute(&mut **tx)
            .await?;
            Ok(renewed.rows_affected() > 0)
        })
    }

    async fn requeue_job(&self, job: &Job, at: WallTime, reason: &str, attempted: bool) -> Result<()> {
        change!(self, "requeue_job", Whose::Of(&job.organization_id), |tx| {
            let lease = Some(job.leased_until);
            if settle(tx, &job.id, lease, JobState::Queued, Some(at), Some(reason)).await? && !attempted {
                let fewer = "UPDATE jobs SET attempt = CASE WHEN attempt > 0 THEN attempt - 1 ELSE 0 END WHERE id = $1";
                sqlx::query(fewer).bind(job.id.as_str()).execute(&mut **tx).await?;
            }
            Ok(())
        })
    }

    async fn finish_clip(&self, job: &Job, result: &ClipResult, event: &Event) -> Result<()> {
        change!(self, "finish_clip", Whose::Of(&job.organization_id), |tx| {
            outbox::lock_organizations(tx, &[&event.organization_id]).await?;
            // Whoever has it done first: the clip is the same.
            if settle(tx, &job.id, None, JobState::Done, None, None).await?
                && settle_highlight(tx, &job.id, HighlightState::Ready, None, event).await?
            {
                sqlx::query(
                    "UPDATE highlights SET clip = $1, thumbnail = $2, clip_start_ns = $3, clip_duration_ns = $4 \
                     WHERE id = $5",
                )
                .bind(&result.clip)
                .bind(&result.thumbnail)
                .bind(result.clip.as_ref().map(|_| result.clip_start.nanos()))
                .bind(result.clip.as_ref().map(|_| result.clip_duration.nanos()))
                .bind(&event.subject)
                .execute(&mut **tx)
                .await?;
                outbox::insert_event(tx, event, job.trace).await?;
            }
            Ok(())
        })
    }

    async fn fail_clip(&self, job: &Job, reason: &str, event: &Event) -> Result<()> {
        change!(self, "fail_clip", Whose::Of(&job.organization_id), |tx| {
            outbox::lock_organizations(tx, &[&event.organization_id]).await?;
            if settle(tx, &job.id, Some(job.leased_until), JobState::Failed, None, Some(reason)).await?
                && settle_highlight(tx, &job.id, HighlightState::Failed, Some(reason), event).await?
            {
                outbox::insert_event(tx, event, job.trace).await?;
            }
            Ok(())
        })
    }

    async fn cancel_job(&self, id: &JobId, reason: &str) -> Result<()> {
        change!(self, "cancel_job", Whose::All, |tx| {
            settle(tx, id, None, JobState::Cancelled, None, Some(reason)).await?;
            Ok(())
        })
    }
}
