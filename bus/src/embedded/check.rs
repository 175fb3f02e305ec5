//! Looks at a bus without changing it: whether it can be opened.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crest_core::{Error, Result};

use super::BusConfig;
use super::files::open_below;

/// Bytes that are copied at a time.
const BLOCK: usize = 64 << 10;
/// How long the copy may take to be closed.
const CLOSING: Duration = Duration::from_secs(5);

/// The file whose lock is held by the process that has the bus in `dir` open.
pub fn lock_file(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// Bytes on disk that [`opens`] copies: all but the tables.
pub fn bytes_to_copy(dir: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    walk(dir, Path::new(""), &mut |path, entry| {
        if entry.is_file() && !is_table(path) && !is_aside(path) {
            // What is allocated: a journal is mostly a hole.
            sum += std::os::unix::fs::MetadataExt::blocks(entry) * 512;
        }
        Ok(())
    })?;
    Ok(sum)
}

/// Opens a copy of the bus in `dir`, made in the empty folder `scratch`, and closes it again. What is
/// never written in place, the tables, is linked and not copied. Must be called within a Tokio runtime,
/// and while nobody has the bus open.
///
/// `false` where opening it puts a damaged part aside. Fails with the error that opening the bus itself
/// would give.
pub fn opens(dir: &Path, scratch: &Path, config: BusConfig) -> Result<bool> {
    let copied = walk(dir, Path::new(""), &mut |path, entry| {
        let (from, to) = (dir.join(path), scratch.join(path));
        if is_aside(path) {
            Ok(())
        } else if entry.is_dir() {
            std::fs::create_dir_all(to)
        } else if is_table(path) {
            std::os::unix::fs::symlink(std::path::absolute(from)?, to)
        } else {
            copy(&from, &to)
        }
    });
    copied.map_err(|error| Error::outside(format!("the bus in {} cannot be read: {error}", dir.display())))?;
    let opened = super::open(scratch, config);
    let failed = opened.map(drop).err();
    // Threads of the log may still write out what they have when it is closed.
    let real = scratch.canonicalize().unwrap_or_else(|_| scratch.to_owned());
    let end = Instant::now() + CLOSING;
    while open_below(&real).is_some() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Some(error) = failed {
        let message = error.message.replace(&scratch.display().to_string(), &dir.display().to_string());
        return Err(Error { message, ..error });
    }
    let mut entries = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    Ok(!entries.any(|entry| is_aside(Path::new(&entry.file_name()))))
}

/// What an earlier start found damaged.
fn is_aside(path: &Path) -> bool {
    path.to_string_lossy().contains(".jnl.damaged-at-")
}

/// A table is written once and later removed; removing the link leaves it.
fn is_table(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|folder| folder == "tables" || folder == "blobs")
}

/// Calls `visit` with the path of each file and folder below `root`, folders first.
fn walk(
    root: &Path,
    below: &Path,
    visit: &mut impl FnMut(&Path, &std::fs::Metadata) -> std::io::Result<()>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let metadata = entry.metadata()?;
        visit(&path, &metadata)?;
        if metadata.is_dir() {
            walk(root, &path, visit)?;
        }
    }
    Ok(())
}

/// Copies a file without filling its holes: journals are made long before they are written.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        let count = from.read(&mut block)?;
        let read = block.get(..count).unwrap_or_default();
        if read.is_empty() {
            return to.set_len(length);
        }
        if read.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(length))?;
            to.write_all(read)?;
        }
        length += count as u64;
    }
}
