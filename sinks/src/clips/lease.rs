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
/// How often that is renewed: two renewals may fail before the job is another's.
const RENEW: Duration = Duration::from_secs(5);

/// When a lease that begins now ends.
pub(super) fn until(now: WallTime) -> WallTime {
    now.plus_millis(millis(LEASE))
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
        loop {
            tokio::time::sleep(RENEW).await;
            let mut held = self.held.lock().await;
            let longer = until(now());
            match store.renew_job(&held, longer).await {
                Ok(true) => held.leased_until = longer,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(highlight_id = self.job.subject, %error, "the lease of a clip job cannot be renewed");
                }
            }
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
