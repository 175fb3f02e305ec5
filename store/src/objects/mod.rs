//! Where finished files lie: in the data directory, or in an S3 bucket.

mod config;
mod folder;
mod measured;
mod s3;
mod trouble;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crest_core::objects::SharedObjects;
use crest_core::{Error, Result};
use futures::TryStreamExt;

pub use config::{Secret, StorageConfig};

use folder::Folder;
use measured::Measured;
use s3::S3;

/// The folders that every key lies in.
const FOLDERS: [&str; 3] = ["media", "clips", "claims"];
/// Longest key in bytes: S3 takes 1024, and what `storage.url` puts in front counts as well.
const LONGEST_KEY: usize = 768;
/// Longest part of a key, between two slashes: file systems take 255 bytes, and a file that is being
/// written has a longer name for a while.
const LONGEST_PART: usize = 200;

/// Opens the home of finished files that the configuration names; nothing is asked of it yet. The error
/// names the setting that is wrong.
pub fn open(config: &StorageConfig, data_dir: &Path) -> Result<SharedObjects> {
    config.check()?;
    Ok(match config.place()? {
        None => Arc::new(Measured(Folder::new(data_dir))),
        Some(place) => Arc::new(Measured(S3::new(config, place)?)),
    })
}

/// Tries a home out: a small object is put there, read, and removed again.
pub async fn try_out(objects: &SharedObjects) -> Result<()> {
    const TEXT: &[u8] = b"crest was here";
    let key = format!("claims/trial-{}", std::process::id());
    objects.ping().await?;
    objects.put(&key, Bytes::from_static(TEXT)).await?;
    let read = async { objects.read(&key, 0..TEXT.len() as u64).await?.try_collect::<Vec<Bytes>>().await };
    let read = read.await;
    // Also where it could not be read.
    objects.delete(&key).await?;
    if read?.concat() == TEXT { Ok(()) } else { Err(Error::outside("an object that was put came back changed")) }
}

/// Refuses a key that is none: it must lie in one of [`FOLDERS`] and lead nowhere else.
fn check_key(key: &str) -> Result<()> {
    match key.split_once('/') {
        Some((folder, rest)) if FOLDERS.contains(&folder) && key.len() <= LONGEST_KEY && is_path(rest) => Ok(()),
        _ => Err(Error::ours(format!("{key:?} is not the key of an object"))),
    }
}

/// Refuses a prefix that is no folder of keys, with or without a slash at its end; returns it without.
fn check_prefix(prefix: &str) -> Result<&str> {
    let folder = prefix.strip_suffix('/').unwrap_or(prefix);
    if FOLDERS.contains(&folder) {
        return Ok(folder);
    }
    check_key(folder).map(|()| folder)
}

/// Whether these are names with single slashes between them.
fn is_path(text: &str) -> bool {
    text.split('/').all(|part| {
        let plain = part.chars().all(|c| !c.is_control() && c != '\\');
        !part.is_empty() && part.len() <= LONGEST_PART && part != "." && part != ".." && plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_in_their_folders_and_lead_nowhere_else() {
        let long = "a".repeat(LONGEST_PART);
        for key in
            ["media/a/b/00001/segment-000001.mp4", "clips/ä ö/+%3F#?.jpg", "claims/..a", &format!("media/{long}")]
        {
            assert!(check_key(key).is_ok(), "{key}");
        }
        let deep = format!("media{}", "/abcdefg".repeat(100));
        for key in [
            "",
            "media",
            "media/",
            "/media/a",
            "media//a",
            "media/../crest.db",
            "media/./a",
            "media/a/..",
            "media/a/",
            "media/a\\b",
            "media/a\nb",
            "media/a\0",
            "crest.db",
            "bus/journal",
            "Media/a",
            &format!("media/{long}a"),
            &deep,
        ] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        assert_eq!(check_prefix("media"), Ok("media"));
        assert_eq!(check_prefix("media/org_a/"), Ok("media/org_a"));
        for prefix in ["", "/", "bus", "media/..", "media//"] {
            assert!(check_prefix(prefix).is_err(), "{prefix:?}");
        }
    }
}
