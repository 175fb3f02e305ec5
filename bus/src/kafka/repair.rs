//! Topics that were deleted are made again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::warn;

use super::cluster::Cluster;
use super::topics;

/// How long it is waited before it is tried again, and looked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is tried before somebody has to notice anew.
const ATTEMPTS: usize = 10;

pub(crate) struct Repair {
    cluster: Arc<Cluster>,
    runtime: Handle,
    busy: AtomicBool,
}

impl Repair {
    /// Must be called within a Tokio runtime.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, runtime: Handle::current(), busy: AtomicBool::new(false) }
    }

    /// Somebody noticed that a topic does not exist. Returns at once, from any thread.
    pub(crate) fn topics_are_missing(self: &Arc<Self>) {
        if self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let repair = self.clone();
        self.runtime.spawn(async move {
            for _ in 0..ATTEMPTS {
                match topics::ensure(&repair.cluster, &topics::wanted(&repair.cluster)).await {
                    Ok((_, made)) => {
                        for name in made {
                            warn!(
                                topic = name,
                                "the topic was deleted while crest was running; it was made again, what it held is lost"
                            );
                        }
                        break;
                    }
                    Err(error) => warn!(%error, "topics that were deleted cannot be made again; trying again in 1 s"),
                }
                tokio::time::sleep(PAUSE).await;
            }
            // The clients learn of it after a moment, and ask again meanwhile.
            tokio::time::sleep(PAUSE).await;
            repair.busy.store(false, Ordering::Relaxed);
        });
    }
}
