//! Closed segment files go to where finished files lie, when that is not the data directory: uploaded,
//! then indexed and told of, so that everything in the index can be read by every process, then removed
//! here. Until then the file on this disk is the only copy, and it waits for as long as it takes.

mod file;
mod growing;
mod lanes;
mod left;

use crest_core::bus::SharedBus;
use crest_core::objects::SharedObjects;
use crest_core::store::SharedStore;
use crest_core::{Error, MediaTime, Result, Session, StreamId};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::IngestConfig;
pub(crate) use growing::Growing;
pub(crate) use lanes::{Closed, Folder};
use lanes::{Lanes, Work};

/// How long a feed that ends, and a process that stops, wait for what is still to be uploaded.
pub(crate) const LAST_UPLOADS: Duration = Duration::from_secs(3);
/// Pauses between attempts of one stream: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// From where to where.
pub(crate) struct Way {
    pub(crate) store: SharedStore,
    pub(crate) bus: SharedBus,
    pub(crate) objects: SharedObjects,
    pub(crate) root: PathBuf,
}

/// Uploads what is closed, some files at a time and those of a stream in order.
pub(crate) struct Uploads {
    way: Way,
    lanes: Mutex<Lanes>,
    permits: Semaphore,
    /// A lane is worked off.
    settled: Notify,
    /// What had failed works again: those who pause need not wait any longer.
    recovered: Notify,
    /// Said once until it passes.
    trouble: Mutex<Option<String>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Uploads {
    /// Nothing is done before something is added; `tasks` are then spawned there.
    pub(crate) fn new(way: Way, config: &IngestConfig, tasks: TaskTracker, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            way,
            lanes: Mutex::new(Lanes::new(config.upload_queue)),
            permits: Semaphore::new(config.uploads.clamp(1, Semaphore::MAX_PERMITS)),
            settled: Notify::new(),
            recovered: Notify::new(),
            trouble: Mutex::default(),
            tasks,
            shutdown,
        })
    }

    /// Takes a file that is closed.
    pub(crate) fn add(self: &Arc<Self>, closed: Closed) {
        let Some(stream) = closed.fragments.first().map(|first| first.stream_id.clone()) else { return };
        waiting(1.0);
        if self.lanes().add(closed) {
            self.work(stream);
        }
    }

    /// Takes what an earlier process left in a folder: so many files.
    pub(crate) fn add_folder(self: &Arc<Self>, folder: Folder, files: usize) {
        let stream = folder.stream.clone();
        waiting(files as f64);
        if self.lanes().add_folder(folder) {
            self.work(stream);
        }
    }

    /// Waits until nothing of this stream waits, or for as long as [`LAST_UPLOADS`].
    pub(crate) async fn settle(&self, stream: &StreamId) {
        let settled = async {
            loop {
                let change = self.settled.notified();
                tokio::pin!(change);
                change.as_mut().enable();
                if !self.lanes().waits(stream) {
                    return;
                }
                change.await;
            }
        };
        if tokio::time::timeout(LAST_UPLOADS, settled).await.is_err() {
            tracing::warn!(stream_id = %stream, "the last segments are still to be uploaded; they wait in the data directory");
        }
    }

    /// Where the media ends that an earlier process left of this session and that is not indexed yet.
    pub(crate) fn left_to(&self, stream: &StreamId, session: Session) -> Option<MediaTime> {
        self.lanes().left_to(stream, session)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works a lane off. What is under way when the process stops may still be finished; what is not is
    /// found at the next start.
    fn work(self: &Arc<Self>, stream: StreamId) {
        let uploads = Arc::clone(self);
        self.tasks.spawn(async move {
            let late = async {
                uploads.shutdown.cancelled().await;
                tokio::time::sleep(LAST_UPLOADS).await;
            };
            tokio::select! {
                () = uploads.drain(&stream) => {}
                () = late => {}
            }
        });
    }

    async fn drain(&self, stream: &StreamId) {
        loop {
            // The lane is gone in the moment in which it is found empty.
            let next = self.lanes().next(stream);
            match next {
                None => break,
                Some(Work::File(closed)) => {
                    self.insist(&closed).await;
                    waiting(-1.0);
                }
                Some(Work::Folder(folder)) => {
                    let search = || self.search(&folder);
                    let what = "segments in the data directory cannot be looked through";
                    let _ = self.until_it_works(what, |_| false, search).await;
                    self.lanes().searched(&folder);
                }
            }
        }
        self.settled.notify_waiters();
    }

    /// Tries until it succeeds, or fails for a reason that makes it hopeless.
    async fn until_it_works<F>(
        &self,
        trouble: &str,
        hopeless: impl Fn(&Error) -> bool,
        attempt: impl Fn() -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let mut pause = PAUSES.0;
        loop {
            match attempt().await {
                Err(error) if hopeless(&error) => return Err(error),
                Err(error) => {
                    self.complain(trouble, &error);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.recovered.notified() => {}
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
                Ok(()) => {
                    let passed = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if passed.is_some() {
                        tracing::info!("segments are uploaded and indexed again");
                        self.recovered.notify_waiters();
                    }
                    return Ok(());
                }
            }
        }
    }

    fn complain(&self, what: &str, error: &Error) {
        let mut said = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_deref() != Some(what) {
            tracing::error!(%error, retryable = error.retryable, "{what}; trying again");
            *said = Some(what.to_owned());
        }
    }
}

/// Files that are closed and not uploaded yet.
fn waiting(more: f64) {
    metrics::gauge!("crest_uploads_waiting").increment(more);
}
