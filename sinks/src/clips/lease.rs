//! The lease of a clip job. It is short and renewed while the clip is cut: the job of a worker that was killed
//! is soon another's, and a cut may take as long as it needs.

use std::convert::Infallible;
use std::future::pending;
use std::ops::Deref;
use std::time::Duration;

use crest_core::WallTime;
use crest_core::job::Job;
use crest_core::store::Store;
use tokio::sync::{Mutex, MutexGuard};

use crate::{millis, now};

/// How long a job is leased.
const LEASE: Duration = Duration::from_secs(15);
/// What is left of it when it is renewed.
const LEFT: Duration = Duration::from_secs(10);
/// Pause after a renewal that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// When a lease that begins now ends.
pub(super) fn until(now: WallTime) -> WallTime {
    now.plus_millis(millis(LEASE))
}

/// How long until a lease is to be renewed.
fn until_due(job: &Job) -> Duration {
    let left = job.leased_until.0.saturating_sub(now().0);
    Duration::from_millis(u64::try_from(left).unwrap_or(0)).saturating_sub(LEFT)
}

/// A job that this worker has leased.
pub(super) struct Leased {
    job: Job,
    /// The same, with the lease as it is now.
    held: Mutex<Job>,
}

impl Leased {
    pub(super) fn new(job: Job) -> Self {
        Self { held: Mutex::new(job.clone()), job }
    }

    /// Renews the lease until it is dropped, or the job is another's. That one cuts it again beside this one:
    /// what is done first counts.
    pub(super) async fn keep(&self, store: &dyn Store) -> Infallible {
        // What was asked for and not answered may have been done all the same: it is asked for again.
        let mut asked = None;
        let mut pause = until_due(&self.job);
        loop {
            tokio::time::sleep(pause).await;
            let mut held = self.held.lock().await;
            let longer = *asked.get_or_insert_with(|| until(now()));
            pause = match store.renew_job(&held, longer).await {
                Ok(true) => {
                    (held.leased_until, asked) = (longer, None);
                    until_due(&held)
                }
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(highlight_id = self.job.subject, %error, "the lease of a clip job cannot be renewed");
                    AGAIN
                }
            };
        }
        pending().await
    }

    /// The job as it is leased now. It is not renewed while this is held.
    pub(super) async fn held(&self) -> MutexGuard<'_, Job> {
        self.held.lock().await
    }
}

/// All of it but when the lease ends.
impl Deref for Leased {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}
