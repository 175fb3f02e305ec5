//! How servers are doing, kept in the store, where the API of any process finds it.

use crest_core::StreamId;
use crest_core::store::SharedStore;
use crest_core::stream::ForwardStatus;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::line::Line;

/// The least time between two notes: servers that come and go write no more than this.
const EVERY: Duration = Duration::from_secs(1);
/// How often all is noted again: the process that had a stream before may have noted after this one that it is over.
const AGAIN: Duration = Duration::from_secs(30);

/// The servers of every stream that is relayed here, and which streams have something new to note.
#[derive(Default)]
pub(super) struct Board {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    lines: HashMap<StreamId, Vec<Arc<Line>>>,
    changed: HashSet<StreamId>,
}

impl Board {
    /// A publisher came: these are the servers of the stream from now on.
    pub(super) fn begin(&self, stream: &StreamId, lines: Vec<Arc<Line>>) {
        self.lock().lines.insert(stream.clone(), lines);
        self.changed(stream);
    }

    /// The publisher that these were begun for is gone.
    pub(super) fn end(&self, stream: &StreamId, lines: &[Arc<Line>]) {
        let mut inner = self.lock();
        // The next publisher may have come already.
        let same = |now: &Vec<Arc<Line>>| now.iter().zip(lines).all(|(a, b)| Arc::ptr_eq(a, b));
        if inner.lines.get(stream).is_some_and(same) {
            inner.lines.remove(stream);
        }
        drop(inner);
        self.changed(stream);
    }

    /// A server of the stream is doing otherwise than before.
    pub(super) fn changed(&self, stream: &StreamId) {
        self.lock().changed.insert(stream.clone());
        self.changed.notify_one();
    }

    /// Notes what changed until `shutdown`; from then on no stream is live, and nothing is read from the notes.
    pub(super) async fn run(self: Arc<Self>, store: SharedStore, shutdown: CancellationToken) {
        let noting = async {
            loop {
                if tokio::time::timeout(AGAIN, self.changed.notified()).await.is_err() {
                    let mut inner = self.lock();
                    let all: Vec<StreamId> = inner.lines.keys().cloned().collect();
                    inner.changed.extend(all);
                }
                self.note(&store).await;
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = noting => {}
        }
    }

    /// Writes down how the servers of each changed stream are doing now.
    async fn note(&self, store: &SharedStore) {
        let changed = std::mem::take(&mut self.lock().changed);
        for stream in changed {
            let statuses = self.statuses(&stream);
            if let Err(error) = store.note_forwards(&stream, &statuses).await {
                tracing::warn!(stream_id = %stream, %error, "how servers are doing could not be noted; it is tried again");
                self.changed(&stream);
            }
        }
    }

    fn statuses(&self, stream: &StreamId) -> Vec<ForwardStatus> {
        self.lock().lines.get(stream).into_iter().flatten().map(|line| line.status()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
