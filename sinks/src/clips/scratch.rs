//! A folder for one clip whose media lies elsewhere: what the clip needs of it is fetched to where the same
//! keys lead, and the clip is made beside it. Gone when it is dropped.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crest_core::objects::SharedObjects;
use crest_core::segment::Fragment;
use crest_core::{Error, Fault, Result};
use futures::{StreamExt, TryStreamExt};
use tokio::fs::{self, File};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// Its place in the data directory; nothing else is kept there.
const FOLDER: &str = "scratch/clips";
/// Objects that are fetched at the same time.
const AT_ONCE: usize = 4;
/// Bytes that are fetched although nobody wants them, so that they are no two requests.
const GAP: u64 = 256 * 1024;

/// The folder.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one that nobody else uses.
    pub(crate) async fn make(root: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = root.join(FOLDER).join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&path).await.map_err(|e| failed(&path, &e))?;
        Ok(Self(path))
    }

    /// Where keys begin.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Fetches what these fragments need. A file that is not stored any more is left out.
    pub(crate) async fn fetch(&self, objects: &SharedObjects, fragments: &[Fragment]) -> Result<()> {
        let files = futures::stream::iter(wanted(fragments)).map(|(object, ranges)| async move {
            match self.fetch_file(objects, &object, ranges).await {
                Err(error) if error.fault == Fault::NotFound => {
                    tracing::warn!(object, "a stored segment is indexed and not there");
                    Ok(())
                }
                fetched => fetched,
            }
        });
        files.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The file has the length that it needs; what was not wanted of it is zeros.
    async fn fetch_file(&self, objects: &SharedObjects, object: &str, ranges: Vec<Range<u64>>) -> Result<()> {
        let path = self.0.join(object);
        let broken = |e: std::io::Error| failed(&path, &e);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).await.map_err(broken)?;
        }
        let mut file = File::create(&path).await.map_err(broken)?;
        for range in ranges {
            file.seek(SeekFrom::Start(range.start)).await.map_err(broken)?;
            let mut parts = objects.read(object, range).await?;
            while let Some(part) = parts.try_next().await? {
                file.write_all(&part).await.map_err(broken)?;
            }
        }
        file.flush().await.map_err(broken)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "what was fetched for a clip could not be removed");
        }
    }
}

/// Removes what an earlier process left. Nobody may be fetching yet.
pub(crate) fn clear(root: &Path) -> Result<()> {
    let path = root.join(FOLDER);
    match std::fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(&path, &e)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, e: &std::io::Error) -> Error {
    Error::of_file(e, format!("cannot write {}: {e}; check free space and permissions", path.display()))
}

/// Which bytes of which files: the header, and the fragments, as few pieces as possible.
fn wanted(fragments: &[Fragment]) -> BTreeMap<String, Vec<Range<u64>>> {
    let mut files: BTreeMap<String, Vec<Range<u64>>> = BTreeMap::new();
    for fragment in fragments {
        let ranges = files.entry(fragment.object.clone()).or_default();
        ranges.push(0..fragment.header_bytes);
        ranges.push(fragment.offset..fragment.offset.saturating_add(fragment.bytes));
    }
    for ranges in files.values_mut() {
        ranges.sort_by_key(|range| (range.start, range.end));
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in ranges.drain(..) {
            match joined.last_mut() {
                Some(last) if range.start <= last.end.saturating_add(GAP) => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        *ranges = joined;
    }
    files
}

/// How many bytes are fetched for these fragments.
pub(crate) fn fetched_bytes(fragments: &[Fragment]) -> u64 {
    wanted(fragments).values().flatten().map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::{MediaTime, OrganizationId, Session, StreamId};

    fn fragment(object: &str, offset: u64, bytes: u64) -> Fragment {
        Fragment {
            organization_id: OrganizationId::from_raw("org_a"),
            stream_id: StreamId::from_raw("str_a"),
            session: Session::new(1),
            object: object.to_owned(),
            header_bytes: 1000,
            offset,
            bytes,
            start: MediaTime::ZERO,
            end: MediaTime::ZERO,
            keyframe: true,
        }
    }

    #[test]
    fn a_short_file_is_fetched_whole_and_of_a_long_one_what_is_needed() {
        let mb = 1 << 20;
        let fragments = [
            fragment("a", 1000, mb),
            fragment("a", 1000 + mb, mb),
            fragment("b", 40 * mb, 2 * mb),
            fragment("b", 42 * mb, 2 * mb),
            fragment("b", 50 * mb, mb),
        ];
        let files = wanted(&fragments);
        assert_eq!(files["a"], vec![0..1000 + 2 * mb; 1]);
        assert_eq!(files["b"], [0..1000, 40 * mb..44 * mb, 50 * mb..51 * mb]);
        assert_eq!(fetched_bytes(&fragments), 2000 + 7 * mb);
    }
}
