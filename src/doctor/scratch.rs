//! A place to try out what must not be touched itself.

use std::path::Path;
use tempfile::TempDir;

use super::finding::size;

/// Most that is copied.
const MOST: u64 = 2 << 30;
/// What stays free beside the copy.
const SPARE: u64 = 64 << 20;

/// An empty folder with room for so many bytes, gone when it is dropped; else what to say instead.
pub fn folder(bytes: u64) -> Result<TempDir, String> {
    let place = std::env::temp_dir();
    let free = |place: &Path| rustix::fs::statvfs(place).map(|volume| volume.f_bavail * volume.f_frsize);
    let copy = size(bytes);
    if bytes > MOST {
        return Err(format!("a copy of {copy} is too much to try it out"));
    }
    match free(&place) {
        Ok(free) if free < bytes + SPARE => Err(format!("{} has no room for a copy of {copy}", place.display())),
        Err(error) => Err(format!("{}: {error}", place.display())),
        Ok(_) => tempfile::Builder::new()
            .prefix("crest-doctor-")
            .tempdir()
            .map_err(|error| format!("{} takes no files: {error}", place.display())),
    }
}
