//! A file that only takes up room: given up when there is none left, so that what must be written
//! down can be.

use rustix::fs::FallocateFlags;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Its name in the data directory.
const NAME: &str = "ballast";

/// The file, there or not.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(crate) fn of(root: &Path) -> Self {
        Self { path: root.join(NAME) }
    }

    /// Bytes that it holds on the volume; 0 where there is none.
    pub(crate) fn held(&self) -> u64 {
        // A sparse copy, from a backup for instance, holds nothing.
        fs::metadata(&self.path).map_or(0, |file| file.len().min(file.blocks().saturating_mul(512)))
    }

    /// Makes it hold `bytes`, really: a file system that only promises them is an error.
    pub(crate) fn hold(&self, bytes: u64) -> io::Result<()> {
        let held = self.held();
        if held >= bytes && held > 0 {
            return Ok(());
        }
        self.give_up()?;
        if bytes == 0 {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
        let made = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(io::Error::from);
        if let Err(error) = made.and_then(|()| File::sync_all(&file)) {
            drop(file);
            self.give_up()?;
            return Err(error);
        }
        Ok(())
    }

    /// Gives its room back.
    pub(crate) fn give_up(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_real_blocks_for_its_owner_alone_and_gives_them_back() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(folder.path());
        assert_eq!(ballast.held(), 0);
        ballast.hold(1 << 20).unwrap();
        assert_eq!(ballast.held(), 1 << 20);
        let file = fs::metadata(folder.path().join(NAME)).unwrap();
        assert_eq!(file.mode() & 0o777, 0o600);
        assert!(file.blocks() * 512 >= 1 << 20, "{} blocks", file.blocks());
        ballast.give_up().unwrap();
        ballast.give_up().unwrap();
        assert_eq!(ballast.held(), 0);
    }

    #[test]
    fn a_sparse_copy_of_it_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(folder.path());
        File::create(folder.path().join(NAME)).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(ballast.held(), 0);
        ballast.hold(1 << 20).unwrap();
        assert_eq!(ballast.held(), 1 << 20);
    }
}
