//! Finished files in a folder of this machine: keys are paths in it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use crest_core::objects::{Method, Objects};
use crest_core::{Error, Result};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::{check_key, check_prefix};

/// Bytes read at a time.
const BLOCK: u64 = 256 * 1024;

/// The folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: Arc<Path>,
}

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        check_key(key)?;
        Ok(self.root.join(key))
    }

    /// Runs on a thread that may wait for the disk; a failure is told with `what` was being done.
    async fn with_disk<T: Send + 'static>(
        what: String,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(|e| match e.kind() {
                ErrorKind::NotFound => Error::not_found(format!("{what}: {e}")),
                _ => Error::of_file(&e, format!("{what}: {e}; check the data directory's disk")),
            }),
            Err(error) => Err(Error::ours(format!("{what} ended abnormally: {error}"))),
        }
    }

    /// Makes `path` hold what `fill` writes: there whole or not at all, also after a loss of power.
    async fn write(
        &self,
        key: &str,
        path: PathBuf,
        fill: impl FnOnce(&mut File) -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let root = Arc::clone(&self.root);
        let work = move || {
            let folder = path.parent().unwrap_or(&root);
            fs::create_dir_all(folder)?;
            let part = temporary(&path);
            let written = (|| {
                let mut file = File::create(&part)?;
                fill(&mut file)?;
                file.sync_all()?;
                fs::rename(&part, &path)
            })();
            if written.is_err() {
                let _ = fs::remove_file(&part);
            }
            written?;
            for folder in folder.ancestors().take_while(|folder| folder.starts_with(&root)) {
                File::open(folder)?.sync_all()?;
            }
            Ok(())
        };
        Self::with_disk(format!("cannot store {key}"), work).await
    }
}

#[async_trait]
impl Objects for Folder {
    fn folder(&self) -> Option<&Path> {
        Some(&self.root)
    }

    async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        let path = self.path(key)?;
        if path == file {
            let there = Self::with_disk(format!("cannot store {key}"), move || fs::metadata(path));
            return there.await.map(drop);
        }
        let from = file.to_owned();
        self.write(key, path, move |to| io::copy(&mut File::open(from)?, to).map(drop)).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let path = self.path(key)?;
        self.write(key, path, move |file| file.write_all(&bytes)).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>> {
        let path = self.path(key)?;
        let size = move || match fs::metadata(path) {
            Ok(file) => Ok(file.is_file().then_some(file.len())),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        };
        Self::with_disk(format!("cannot look at {key}"), size).await
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (path, what) = (self.path(key)?, format!("cannot read {key}"));
        let open = move || {
            let file = File::open(path)?;
            Ok((file.metadata()?.len(), file))
        };
        let (length, file) = Self::with_disk(what.clone(), open).await?;
        if range.end > length {
            return Err(Error::not_found(format!("{what}: it has {length} bytes, not {}", range.end)));
        }
        let file = Arc::new(file);
        let blocks = stream::try_unfold(range.start, move |at| {
            let (file, what) = (Arc::clone(&file), what.clone());
            let count = range.end.saturating_sub(at).min(BLOCK);
            async move {
                if count == 0 {
                    return Ok(None);
                }
                let read = move || {
                    let mut block = vec![0; usize::try_from(count).unwrap_or_default()];
                    file.read_exact_at(&mut block, at)?;
                    Ok(Bytes::from(block))
                };
                Ok(Some((Folder::with_disk(what, read).await?, at + count)))
            }
        });
        Ok(blocks.boxed())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        let remove = move || match fs::remove_file(path) {
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(e),
            _ => Ok(()),
        };
        Self::with_disk(format!("cannot remove {key}"), remove).await
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<(String, u64)>>> {
        let (prefix, root) = (check_prefix(prefix)?.to_owned(), Arc::clone(&self.root));
        // One folder at a time: however many objects there are, no more are held.
        let folders = stream::try_unfold(vec![prefix], move |mut folders| {
            let root = Arc::clone(&root);
            async move {
                let Some(folder) = folders.pop() else { return Ok(None) };
                let what = format!("cannot list {folder}");
                let (files, below) = Folder::with_disk(what, move || look(&root, &folder)).await?;
                folders.extend(below);
                Ok(Some((stream::iter(files.into_iter().map(Ok)), folders)))
            }
        });
        Ok(folders.try_flatten().boxed())
    }

    async fn signed_url(&self, key: &str, _: Method, _: Duration) -> Result<Option<String>> {
        check_key(key).map(|()| None)
    }

    async fn ping(&self) -> Result<()> {
        let root = Arc::clone(&self.root);
        let what = format!("the data directory {} cannot be used", root.display());
        Self::with_disk(what, move || fs::read_dir(root).map(drop)).await
    }
}

/// What is in a folder: files with their sizes, and folders, by their keys.
type Content = (Vec<(String, u64)>, Vec<String>);

/// Looks into a folder. There is nothing in what is none.
fn look(root: &Path, folder: &str) -> io::Result<Content> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok((files, folders)),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // One that goes meanwhile is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let key = format!("{folder}/{name}");
        if metadata.is_dir() {
            folders.push(key);
        } else if metadata.is_file() && !is_temporary(&name) {
            files.push((key, metadata.len()));
        }
    }
    Ok((files, folders))
}

/// A name beside `path` that no other writer of this process uses.
fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.part", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".part")
}
