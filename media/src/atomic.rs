//! Files that appear whole or not at all.

use crest_core::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Creates `out` with what `fill` writes: into a temporary file beside it, synchronised to disk, then renamed.
/// Missing folders are made. Returns the file's size.
pub(crate) fn write(out: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<u64> {
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| failed(folder, &e))?;
    let part = temporary(out);
    let written = (|| {
        let mut file = File::create(&part).map_err(|e| failed(&part, &e))?;
        fill(&mut file)?;
        file.sync_all().map_err(|e| failed(&part, &e))?;
        let bytes = file.metadata().map_err(|e| failed(&part, &e))?.len();
        fs::rename(&part, out).map_err(|e| failed(out, &e))?;
        // The name must survive a crash as well.
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed(folder, &e))?;
        Ok(bytes)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

/// Removes what writers that were killed left unfinished in the folders of `root`, one level down.
/// Nobody may be writing there yet. Returns how many files there were.
pub fn remove_unfinished(root: &Path) -> Result<usize> {
    let list = |folder: &Path| match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>().map_err(|e| failed(folder, &e)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(e) => Err(failed(folder, &e)),
    };
    let mut removed = 0;
    for folder in list(root)? {
        for entry in list(&folder.path())? {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") && name.as_encoded_bytes().ends_with(b".part") {
                fs::remove_file(entry.path()).map_err(|e| failed(&entry.path(), &e))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// The error for a path that cannot be written.
pub(crate) fn failed(path: &Path, e: &io::Error) -> Error {
    Error::of_file(e, format!("cannot write {}: {e}; check free space and permissions", path.display()))
}

/// A name beside `out` that no other writer in this process uses. What a crash left under it is written over.
fn temporary(out: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = OsString::from(".");
    name.push(out.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.part", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    out.with_file_name(name)
}
