//! Closed segment files go to where finished files lie, when that is not the data directory: uploaded,
//! then indexed and told of, so that everything in the index can be read by every process, then removed
//! here. Until then the file on this disk is the only copy, and it waits for as long as it takes.

mod lanes;

use crest_core::bus::{Record, SharedBus};
use crest_core::crash::{Stage, around};
use crest_core::objects::SharedObjects;
use crest_core::segment::Fragment;
use crest_core::store::SharedStore;
use crest_core::topic::Topic;
use crest_core::{Error, Fault, MediaTime, Result, Session, StreamId, object};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::IngestConfig;
use crate::recovery::{blocking, segments};
pub(crate) use lanes::{Closed, Folder};
use lanes::{Lanes, Work, number};

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

/// What became of a file.
enum Outcome {
    /// It is uploaded, indexed and gone from here.
    Done,
    /// It stays where it is: nobody knows what it belongs to.
    Left,
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

    /// Uploads what lies in a folder, in order.
    async fn search(&self, folder: &Folder) -> Result<()> {
        let mut left = BTreeSet::new();
        loop {
            let (root, wanted) = (self.way.root.clone(), folder.clone());
            let files = blocking(move || files_of(&root, &wanted)).await?;
            let files: Vec<_> = files.into_iter().filter(|file| !left.contains(file)).collect();
            if files.is_empty() {
                // Of an earlier process, and nobody else's: an empty folder has no use. One that is not
                // empty stays.
                if folder.up_to == u32::MAX {
                    let _ = tokio::fs::remove_dir(self.way.root.join(path_of(folder))).await;
                }
                return Ok(());
            }
            for object in files {
                let (root, name) = (self.way.root.clone(), object.clone());
                let fragments = blocking(move || crest_media::salvage(&root, &name, 0)).await?;
                if fragments.is_empty() {
                    tracing::info!(object, "a segment that was begun and holds nothing whole is removed");
                    remove(&self.way.root.join(&object)).await?;
                } else if let Outcome::Left = self.insist(&Closed { object: object.clone(), fragments, at: None }).await
                {
                    left.insert(object);
                }
                waiting(-1.0);
            }
        }
    }

    /// Uploads and indexes a file, however long that takes.
    async fn insist(&self, closed: &Closed) -> Outcome {
        let path = self.way.root.join(&closed.object);
        let upload = || async {
            let _permit = self.permits.acquire().await.map_err(|e| Error::ours(e.to_string()))?;
            self.way.objects.put_file(&closed.object, &path).await
        };
        // Wrong credentials may be mended, too, and the file is not lost meanwhile.
        let hopeless = |error: &Error| error.fault == Fault::NotFound;
        let what = "segments cannot be uploaded and wait in the data directory";
        if let Err(gone) = self.until_it_works(what, hopeless, upload).await {
            lost("not_on_disk", closed.fragments.len());
            tracing::error!(object = closed.object, error = %gone, "a segment is gone before it could be uploaded");
            return Outcome::Done;
        }
        for fragment in &closed.fragments {
            let index = || around(Stage::Fragment, self.way.store.add_fragment(fragment));
            let hopeless = |error: &Error| !error.retryable;
            if let Err(error) = self.until_it_works("uploaded segments cannot be indexed", hopeless, index).await {
                return self.unknown(closed, &error).await;
            }
            let record = Record::new(Topic::MediaSegments, fragment.stream_id.clone(), fragment.encode());
            let tell = || self.way.bus.append(Topic::MediaSegments, vec![record.clone()]);
            if let Err(error) = self.until_it_works("uploaded segments cannot be told of", hopeless, tell).await {
                tracing::error!(object = closed.object, %error, "an uploaded segment was not told of");
            }
        }
        if let Some(at) = closed.at {
            metrics::histogram!("crest_upload_seconds").record(at.elapsed().as_secs_f64());
        }
        if let Err(error) = remove(&path).await {
            tracing::warn!(object = closed.object, %error, "an uploaded segment could not be removed from the data directory");
            return Outcome::Left;
        }
        Outcome::Done
    }

    /// A file that belongs to nothing the store knows: it is not left where nobody would find it again.
    async fn unknown(&self, closed: &Closed, error: &Error) -> Outcome {
        lost("index", closed.fragments.len());
        tracing::error!(object = closed.object, %error, "an uploaded segment cannot be indexed; it stays in the data directory");
        if let Err(error) = self.way.objects.delete(&closed.object).await {
            tracing::warn!(object = closed.object, %error, "an uploaded segment that is not indexed could not be removed");
        }
        Outcome::Left
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

fn lost(cause: &'static str, fragments: usize) {
    metrics::counter!("crest_fragments_lost_total", "cause" => cause).increment(fragments as u64);
}

/// The files of a folder up to the last that is closed, in order.
fn files_of(root: &Path, folder: &Folder) -> Result<Vec<String>> {
    let files = segments(root, &root.join(path_of(folder)))?;
    Ok(files.into_keys().filter(|object| number(object) <= folder.up_to).collect())
}

fn path_of(folder: &Folder) -> String {
    object::session_folder(&folder.organization, &folder.stream, folder.session)
}

async fn remove(path: &Path) -> Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::of_file(&e, format!("{}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}

/// What a feed has closed fragments of and not handed over yet: files that may still grow.
#[derive(Debug, Default)]
pub(crate) struct Growing(Vec<Fragment>);

impl Growing {
    /// Takes fragments that closed; returns the files that are closed with them, for good: all but `open`.
    pub(crate) fn take(&mut self, fragments: Vec<Fragment>, open: Option<&str>) -> Vec<Closed> {
        self.0.extend(fragments);
        let mut closed: Vec<Closed> = Vec::new();
        let at = Some(std::time::Instant::now());
        let whole = self.0.iter().position(|f| Some(f.object.as_str()) == open).unwrap_or(self.0.len());
        for fragment in self.0.drain(..whole) {
            match closed.last_mut().filter(|file| file.object == fragment.object) {
                Some(file) => file.fragments.push(fragment),
                None => closed.push(Closed { object: fragment.object.clone(), fragments: vec![fragment], at }),
            }
        }
        closed
    }
}
