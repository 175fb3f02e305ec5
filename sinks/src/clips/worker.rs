//! Leases clip jobs, waits for their media, has them built and tells what became of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crest_core::crash::{Stage, around};
use crest_core::highlight::{HighlightState, StoredHighlight};
use crest_core::job::JobKind;
use crest_core::{Error, HighlightId, Result, WallTime};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::build::{self, Built};
use super::lease::{self, Leased};
use crate::{millis, now};

/// How long a build under way may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// How long after the end of a session its last fragment may turn up in the index, where it lies here
/// already.
const SETTLE: Duration = Duration::from_secs(2);
/// Pause after the first failure; one more of it after each further one.
const AGAIN: Duration = Duration::from_secs(1);

/// Pause of a clip whose media, or home, is out of reach.
const AWAY: Duration = Duration::from_secs(2);
/// Pause of a clip that there is no room for.
const ROOM: Duration = Duration::from_secs(5);
/// How often a clip is begun, whatever ended the earlier attempts: one that brings the process down
/// must not do so for ever.
const MOST_ATTEMPTS: u32 = 20;

/// One of the workers.
pub(crate) struct Worker {
    shared: Arc<Shared>,
}

/// What became of a job, as the metric names it; `None` where it goes on waiting.
type Outcome = Option<&'static str>;

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until `shutdown`. A build that does not end soon after it is put back.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let at = now();
            let leased = self.shared.store.lease_job(JobKind::Clip, at, lease::until(at)).await;
            match leased {
                Ok(Some(job)) => self.process(&Leased::new(job), &shutdown).await,
                Ok(None) => self.pause(&shutdown).await,
                Err(error) => {
                    self.complain(None, &error, "clip jobs cannot be leased; trying again");
                    self.pause(&shutdown).await;
                }
            }
        }
    }

    async fn pause(&self, shutdown: &CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(self.shared.config.poll.0) => {}
        }
    }

    async fn process(&self, job: &Leased, shutdown: &CancellationToken) {
        let deadline = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let done = tokio::select! {
            done = self.work(job) => Some(done),
            never = job.keep(&*self.shared.store) => match never {},
            () = deadline => None,
        };
        let done = match done {
            Some(done) => done,
            None => self.back(job, now(), "crest stopped while it ran", false).await,
        };
        match done {
            Ok(Some(outcome)) => {
                self.shared.progress.forget(&job.id);
                metrics::counter!("crest_clips_total", "outcome" => outcome).increment(1);
            }
            Ok(None) => {}
            // The job is leased again when its lease has run out.
            Err(error) => self.complain(Some(job), &error, "how a clip job went cannot be noted"),
        }
    }

    async fn work(&self, job: &Leased) -> Result<Outcome> {
        let Shared { store, links, .. } = &*self.shared;
        let stored = match self.wanted(job).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(reason)) => return store.cancel_job(&job.id, reason).await.map(|()| Some("cancelled")),
            Err(error) => return self.again(job, &error).await,
        };
        match self.must_wait(job, &stored).await {
            Ok(false) => {}
            Ok(true) => {
                let at = now().plus_millis(millis(self.shared.config.poll.0));
                return self.back(job, at, "waits for media to be stored", false).await;
            }
            Err(error) => return self.again(job, &error).await,
        }
        if job.attempt > MOST_ATTEMPTS {
            let reason = format!("cutting it was begun {MOST_ATTEMPTS} times and never came to an end");
            return self.fail(job, &stored, &reason).await;
        }
        let started = Instant::now();
        match around(Stage::Clip, build::build(&self.shared, &stored)).await {
            Ok(Built::Made(result)) => {
                metrics::histogram!("crest_clip_build_seconds").record(started.elapsed().as_secs_f64());
                let mut event = build::ready(&stored, &result, links, now());
                event.trace = job.trace;
                match around(Stage::Ready, store.finish_clip(job, &result, &event)).await {
                    Ok(()) => Ok(Some("ready")),
                    Err(error) => self.overtaken(job, error).await,
                }
            }
            Ok(Built::Impossible(reason)) => self.fail(job, &stored, &reason).await,
            Ok(Built::NoRoom(reason)) => {
                metrics::counter!("crest_clips_postponed_total", "cause" => "disk_reserve").increment(1);
                self.back(job, now().plus_millis(millis(ROOM)), &reason, false).await
            }
            Ok(Built::Away(error)) => {
                self.shared.reach.lost();
                self.complain(Some(job), &error, "the storage cannot be used; a clip waits for it");
                metrics::counter!("crest_clips_postponed_total", "cause" => "storage").increment(1);
                self.back(job, now().plus_millis(millis(AWAY)), &error.message, false).await
            }
            Err(error) => {
                let failures = self.shared.progress.failed(&job.id, now());
                if failures < self.shared.config.attempts {
                    tracing::warn!(highlight_id = job.subject, stream_id = %stored.highlight.stream_id, %error, failures,
                        "a clip could not be made; trying again");
                    return self.put_back(job, failures, &error).await;
                }
                self.fail(job, &stored, &error.message).await
            }
        }
    }

    /// The highlight, or why no clip of it is wanted.
    async fn wanted(&self, job: &Leased) -> Result<Result<StoredHighlight, &'static str>> {
        let id = HighlightId::from_raw(job.subject.clone());
        Ok(match self.shared.store.highlight(&job.organization_id, &id).await? {
            None => Err("the highlight is not there any more"),
            Some(stored) => match stored.highlight.state {
                HighlightState::Final | HighlightState::Failed => Ok(stored),
                HighlightState::Deleted => Err("the highlight was deleted"),
                HighlightState::Ready => Err("the clip is there already"),
                HighlightState::Provisional => Err("the highlight is not decided"),
            },
        })
    }

    /// Whether media that the clip shows is still to be stored.
    async fn must_wait(&self, job: &Leased, stored: &StoredHighlight) -> Result<bool> {
        let Shared { store, objects, config, progress, reach, .. } = &*self.shared;
        let (stream, session) = (&stored.highlight.stream_id, stored.highlight.session);
        let (_, to) = build::stretch(&self.shared, stored);
        let stored_to = store.stored_to(stream, session).await?;
        if stored_to.is_some_and(|end| end >= to) {
            return Ok(false);
        }
        let sessions = store.sessions(stream).await?;
        let row = sessions.iter().find(|row| row.session == session);
        let ended_at = row.and_then(|row| row.ended_at);
        if ended_at.is_some() && stored_to >= ended_at {
            return Ok(false);
        }
        let over = ended_at.is_some() || row.is_none() || sessions.iter().any(|row| row.session > session);
        let here = objects.folder().is_some();
        let patience = if over && here { config.max_wait.0.min(SETTLE) } else { config.max_wait.0 };
        let seen = progress.first_seen(&job.id, now());
        // What could not be uploaded meanwhile gets its time afterwards.
        for ask in [false, true] {
            let since = reach.away_until(objects, ask).await.map_or(seen, |away| seen.max(away));
            if now() < since.plus_millis(millis(patience)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn fail(&self, job: &Leased, stored: &StoredHighlight, reason: &str) -> Result<Outcome> {
        tracing::warn!(highlight_id = job.subject, stream_id = %stored.highlight.stream_id, reason, "a clip was given up");
        let mut event = build::failed(stored, reason, &self.shared.links, now());
        event.trace = job.trace;
        let failed = self.shared.store.fail_clip(&*job.held().await, reason, &event).await;
        match failed {
            Ok(()) => Ok(Some("failed")),
            Err(error) => self.overtaken(job, error).await,
        }
    }

    /// The outcome was not accepted: the highlight changed meanwhile, or the store is away.
    async fn overtaken(&self, job: &Leased, error: Error) -> Result<Outcome> {
        if error.retryable {
            return self.again(job, &error).await;
        }
        self.shared.store.cancel_job(&job.id, &error.message).await.map(|()| Some("cancelled"))
    }

    /// The store failed: no fault of the clip.
    async fn again(&self, job: &Leased, error: &Error) -> Result<Outcome> {
        self.complain(Some(job), error, "the store does not answer a clip job; trying again");
        let at = now().plus_millis(millis(AGAIN));
        self.back(job, at, &error.message, false).await
    }

    async fn put_back(&self, job: &Leased, failures: u32, error: &Error) -> Result<Outcome> {
        let at = now().plus_millis(millis(AGAIN.saturating_mul(failures)));
        self.back(job, at, &error.message, true).await
    }

    async fn back(&self, job: &Leased, at: WallTime, reason: &str, attempted: bool) -> Result<Outcome> {
        self.shared.store.requeue_job(&*job.held().await, at, reason, attempted).await.map(|()| None)
    }

    fn complain(&self, job: Option<&Leased>, error: &Error, what: &'static str) {
        tracing::warn!(highlight_id = job.map(|job| job.subject.as_str()), %error, "{what}");
    }
}
