//! What an earlier process left in the folders of media, brought back into step with the index: a
//! fragment that was written and not indexed is indexed, one that is indexed and not there any more is
//! forgotten, and a file that nobody knows goes. Otherwise the disk would leak, for retention removes
//! what is indexed.
//!
//! Sessions that were being fed come first, before anybody may publish; the rest is looked through in
//! the background. Where media does not stay here, what is here waits to be uploaded. A process never goes on with an earlier one's session, so nothing here is written to.

use crest_core::segment::Fragment;
use crest_core::store::SharedStore;
use crest_core::stream::StreamState;
use crest_core::units::Span;
use crest_core::{Error, Fault, MediaTime, OrganizationId, Result, Session, StreamId, object};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

use crate::upload::Uploads;

/// How long a start waits for what was being fed when the earlier process ended.
const FIRST: Duration = Duration::from_secs(5);

/// The folder of one session, found at the start.
pub(crate) type Folder = (OrganizationId, StreamId, Session);

/// Looks through what was there when this process began.
pub(crate) struct Recovery {
    store: SharedStore,
    root: PathBuf,
    /// How long media is kept of which nothing is known.
    keep: Duration,
    folders: Vec<Folder>,
    /// Where media goes that does not stay here.
    uploads: Option<Arc<Uploads>>,
    unknown: Vec<PathBuf>,
}

impl Recovery {
    /// Lists the folders. To be called before anything is stored.
    pub(crate) async fn look(
        store: SharedStore,
        root: PathBuf,
        keep: Span,
        uploads: Option<Arc<Uploads>>,
    ) -> Result<Self> {
        let media = root.join("media");
        let folders = blocking(move || folders(&media)).await?;
        Ok(Self { store, root, keep: keep.0, folders, uploads, unknown: Vec::new() })
    }

    /// Settles the sessions that were being fed, for as long as a start may wait.
    pub(crate) async fn urgent(&mut self) -> Result<()> {
        let fed = self.store.streams_in(&[StreamState::Live, StreamState::Interrupted]).await?;
        let fed: Vec<_> = fed.into_iter().filter_map(|stream| Some((stream.id, stream.session?))).collect();
        if let Some(uploads) = self.uploads.clone() {
            let limit = Instant::now() + FIRST;
            return uploads.take_left(&mut self.folders, &mut self.unknown, &fed, limit).await;
        }
        let (first, rest) =
            std::mem::take(&mut self.folders).into_iter().partition(|(_, s, n)| fed.contains(&(s.clone(), *n)));
        self.folders = rest;
        let mut first: Vec<Folder> = first;
        let settle = async {
            while let Some(folder) = first.last().cloned() {
                self.settle_or_log(&folder).await;
                first.pop();
            }
        };
        if tokio::time::timeout(FIRST, settle).await.is_err() {
            tracing::info!(sessions = first.len(), "stored media is still being looked through, in the background");
        }
        self.folders.append(&mut first);
        Ok(())
    }

    /// Settles the rest; then waits until what nobody knows has become too old, and removes it.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        while let Some(folder) = self.folders.pop() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.settle_or_log(&folder) => {}
            }
        }
        while !self.unknown.is_empty() {
            let unknown = std::mem::take(&mut self.unknown);
            let keep = self.keep;
            self.unknown = blocking(move || Ok(remove_old(unknown, keep))).await.unwrap_or_default();
            if !self.unknown.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(keep) => {}
                }
            }
        }
    }

    async fn settle_or_log(&mut self, folder: &Folder) {
        let (_, stream, session) = folder;
        if let Err(error) = self.settle(folder).await {
            tracing::warn!(stream_id = %stream, %session, %error, "stored media could not be looked through");
        }
    }

    async fn settle(&mut self, (organization, stream, session): &Folder) -> Result<()> {
        let ever = (MediaTime::from_nanos(i64::MIN), MediaTime::from_nanos(i64::MAX));
        let mut indexed: BTreeMap<String, Vec<Fragment>> = BTreeMap::new();
        for fragment in self.store.fragments(stream, *session, ever.0, ever.1).await? {
            indexed.entry(fragment.object.clone()).or_default().push(fragment);
        }
        let folder = self.root.join(object::session_folder(organization, stream, *session));
        let files = blocking({
            let root = self.root.clone();
            move || segments(&root, &folder)
        })
        .await?;
        let (mut taken, mut forgotten) = (0, 0);
        for (object, fragments) in &mut indexed {
            let length = files.get(object).copied().unwrap_or(0);
            let known = fragments.len();
            fragments.retain(|fragment| fragment.offset.saturating_add(fragment.bytes) <= length);
            if fragments.len() < known {
                forgotten += known - fragments.len();
                self.store.forget_segment(object).await?;
                for fragment in fragments.iter() {
                    self.store.add_fragment(fragment).await?;
                }
            }
        }
        for (object, length) in files {
            let known = indexed.get(&object).into_iter().flatten().map(|f| f.offset + f.bytes).max().unwrap_or(0);
            if length > known || known == 0 {
                taken += self.adopt(object, known).await?;
            }
        }
        if taken > 0 {
            tracing::info!(stream_id = %stream, %session, fragments = taken, "media that was stored last is indexed now");
        }
        if forgotten > 0 {
            metrics::counter!("crest_fragments_lost_total", "cause" => "not_on_disk").increment(forgotten as u64);
            tracing::warn!(stream_id = %stream, %session, fragments = forgotten,
                "indexed media is not on the disk, as a loss of power leaves it; it is forgotten");
        }
        Ok(())
    }

    /// Indexes what a file holds from byte `known` on; says how many fragments that were.
    async fn adopt(&mut self, object: String, known: u64) -> Result<usize> {
        let (root, path) = (self.root.clone(), self.root.join(&object));
        let name = object.clone();
        let found = blocking(move || {
            let found = crest_media::salvage(&root, &name, known)?;
            found.iter().try_for_each(|fragment| crest_media::make_durable(&root, fragment))?;
            Ok(found)
        })
        .await?;
        for fragment in &found {
            match self.store.add_fragment(fragment).await {
                Err(error) if error.fault == Fault::NotFound => {
                    tracing::warn!(
                        object,
                        "a stored segment belongs to no session that is known; it is removed when it is old"
                    );
                    self.unknown.push(path);
                    return Ok(0);
                }
                added => added?,
            }
        }
        if found.is_empty() && known == 0 {
            tracing::info!(object, "a segment that was begun and holds nothing whole is removed");
            tokio::fs::remove_file(&path).await.map_err(|e| Error::outside(format!("{object}: {e}")))?;
        }
        Ok(found.len())
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::ours(format!("looking through stored media ended abnormally: {error}"))),
    }
}

/// What is in a folder, by name; nothing where there is none.
fn list(folder: &Path) -> Result<Vec<(String, fs::DirEntry)>> {
    let failed = |e: std::io::Error| Error::outside(format!("cannot read {}: {e}", folder.display()));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().map_err(failed)?,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Vec::new(),
        Err(e) => return Err(failed(e)),
    };
    Ok(entries.into_iter().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry))).collect())
}

/// The folders of sessions under `media`.
fn folders(media: &Path) -> Result<Vec<Folder>> {
    let mut found = Vec::new();
    for (organization, entry) in list(media)? {
        for (stream, entry) in list(&entry.path())? {
            for (session, _) in list(&entry.path())? {
                let name = format!("media/{organization}/{stream}/{session}/segment-000000.mp4");
                found.extend(object::session_of_segment(&name));
            }
        }
    }
    Ok(found)
}

/// Keys and sizes of the segment files in a session's folder.
pub(crate) fn segments(root: &Path, folder: &Path) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for (_, entry) in list(folder)? {
        let path = entry.path();
        let object = path.strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default();
        // One that went meanwhile was removed by retention.
        if let (Some(_), Ok(file)) = (object::session_of_segment(object), entry.metadata()) {
            found.insert(object.to_owned(), file.len());
        }
    }
    Ok(found)
}

/// Removes the files that were last written so long ago, and returns the others.
fn remove_old(mut files: Vec<PathBuf>, keep: Duration) -> Vec<PathBuf> {
    files.retain(|path| {
        let written = fs::metadata(path).and_then(|file| file.modified());
        let young = written.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < keep);
        if !young && let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "a stored segment that nobody knows could not be removed");
        }
        young
    });
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_goes_when_it_is_old() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (young, old) = (folder.path().join("young"), folder.path().join("old"));
        fs::write(&young, "")?;
        fs::File::create(&old)?.set_modified(SystemTime::now() - Duration::from_secs(100))?;
        let left = remove_old(vec![young.clone(), old.clone(), folder.path().join("gone")], Duration::from_secs(50));
        assert_eq!(left, [young]);
        assert!(!old.exists());
        Ok(())
    }
}
