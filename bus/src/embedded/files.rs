//! The files of the bus as `fjall` has them open; and opened anew after a write has failed.
//!
//! Once a write has failed, for want of room mostly, `fjall` takes none any more: its journal may end in
//! the middle of a batch, and recovery takes nothing that follows such a tear. What was acknowledged
//! stands before it. So the files are closed and opened again, which cuts the tear off, and everything
//! goes on; meanwhile whoever comes is told to try again.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use crest_core::topic::Topic;
use crest_core::{Error, Result};

/// What a topic may hold in memory before it is written out as a table; up to five times that where the
/// disk does not keep up. It stays with a directory from its creation on. (With 2 MiB writing is a
/// quarter slower than with 16, with 4 a tenth; a stream of an hour fills all of it several times.)
const MEMTABLE_BYTES: u64 = 4 << 20;
/// Tables that are kept open. Readers follow the end of a topic, which is in memory.
const OPEN_TABLES: usize = 128;
/// What the journals that are not written out as tables may take together before the oldest is: the
/// least that `fjall` takes. There may be one more than that.
const JOURNAL_BYTES: u64 = 64 << 20;

/// What must fit before the files are opened again.
const PROBE_BYTES: usize = 256 << 10;
/// How long files that were let go may take to be closed.
const CLOSING: Duration = Duration::from_secs(5);

/// Where the records of a topic lie.
pub(crate) fn topic_keyspace(topic: Topic) -> String {
    format!("topic-{}", topic.name())
}

/// The open files.
pub(crate) struct Opened {
    db: Database,
    keyspaces: HashMap<String, Keyspace>,
}

impl Opened {
    fn open(dir: &Path, names: &[String]) -> fjall::Result<Self> {
        let builder = Database::builder(dir).max_journaling_size(JOURNAL_BYTES);
        let db = builder.max_cached_files(Some(OPEN_TABLES)).open()?;
        let mut keyspaces = HashMap::new();
        for name in names {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            keyspaces.insert(name.clone(), db.keyspace(name, options)?);
        }
        Ok(Self { db, keyspaces })
    }

    pub(crate) fn batch(&self) -> fjall::OwnedWriteBatch {
        self.db.batch()
    }

    pub(crate) fn keyspace(&self, name: &str) -> Result<&Keyspace> {
        self.keyspaces.get(name).ok_or_else(|| Error::ours(format!("the bus has no keyspace {name}")))
    }
}

/// The files, open or about to be opened again.
pub(crate) struct Files {
    dir: PathBuf,
    names: Vec<String>,
    /// `None` where opening them again failed so far.
    opened: RwLock<Option<Opened>>,
    /// A write has failed: nothing more can be written to these files as they are open.
    broken: AtomicBool,
}

impl Files {
    pub(crate) fn open(dir: &Path, names: Vec<String>) -> fjall::Result<Self> {
        let opened = Opened::open(dir, &names)?;
        Ok(Self { dir: dir.to_owned(), names, opened: RwLock::new(Some(opened)), broken: AtomicBool::new(false) })
    }

    /// Reads. Fails, retryably, while the files are being opened again; never waits for that.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
        let guard = match self.opened.try_read() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(reopening()),
        };
        work(guard.as_ref().ok_or_else(reopening)?)
    }

    /// Writes. A failure makes the files be opened again.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
        if self.broken() {
            return Err(reopening());
        }
        // Under the lock: a failure of the files as they were must not be held against new ones.
        self.read(|opened| {
            work(opened).inspect_err(|error| {
                if error.retryable {
                    self.broken.store(true, Ordering::Release);
                }
            })
        })
    }

    /// Whether a write has failed and the files were not opened again since.
    pub(crate) fn broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Brings what was written to the disk, or only looks whether the background work still goes.
    pub(crate) fn persist(&self, mode: PersistMode) -> Result<()> {
        self.write(|opened| opened.db.persist(mode).map_err(storage))
    }

    /// Writes what is held of a keyspace in memory out as a table, in the background: it is in the journal already,
    /// and read from there after a crash.
    pub(crate) fn write_out(&self, keyspace: &str) -> Result<()> {
        self.write(|opened| opened.keyspace(keyspace)?.rotate_memtable().map(drop).map_err(storage))
    }

    /// Closes the files and opens them again; `settle` puts them in order before anybody else has them.
    /// Waits for whoever uses them.
    pub(crate) fn reopen(&self, settle: impl FnOnce(&Opened) -> Result<()>) -> Result<()> {
        // Without room they would break again at once.
        self.probe().map_err(|error| Error::of_file(&error, format!("{}: {error}", self.dir.display())))?;
        let mut guard = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
        self.wait_until_closed()?;
        super::mend::mend(&self.dir)?;
        let opened = Opened::open(&self.dir, &self.names).map_err(storage)?;
        settle(&opened)?;
        *guard = Some(opened);
        self.broken.store(false, Ordering::Release);
        Ok(())
    }
}

impl Files {
    /// Writes a little beside them.
    fn probe(&self) -> std::io::Result<()> {
        let path = self.dir.join("room");
        let written = std::fs::write(&path, vec![b'x'; PROBE_BYTES]);
        std::fs::remove_file(&path)?;
        written
    }

    /// Returns once the process has none of the files open. The last thread of `fjall` to go may still
    /// write out what was left in a buffer when it is told that all are gone.
    fn wait_until_closed(&self) -> Result<()> {
        let dir = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let until = Instant::now() + CLOSING;
        while let Some(open) = open_below(&dir) {
            if Instant::now() > until {
                return Err(Error::outside(format!("{} is still open", open.display())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// A file below `dir` that this process has open.
pub(crate) fn open_below(dir: &Path) -> Option<PathBuf> {
    let descriptors = std::fs::read_dir("/proc/self/fd").ok()?;
    descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).find(|path| path.starts_with(dir))
}

fn reopening() -> Error {
    Error::outside("a write to the bus failed, and its files are being opened again; check the room on the disk")
}

/// A failure of the log's storage.
pub(crate) fn storage(error: fjall::Error) -> Error {
    match error {
        fjall::Error::Io(error) => {
            let message = format!("the storage of the bus failed: {error}");
            Error::of_file(&error, message)
        }
        fjall::Error::Poisoned => Error::outside("an earlier write to the bus failed"),
        other => Error::outside(format!("the storage of the bus failed: {other}")),
    }
}
