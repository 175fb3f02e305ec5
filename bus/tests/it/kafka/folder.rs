//! Objects in a folder, without anything that tests of the bus do not need.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crest_core::objects::{Method, Objects};
use crest_core::{Error, Result};

pub struct Folder {
    pub path: PathBuf,
    /// Whether it does not answer.
    pub away: AtomicBool,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), away: AtomicBool::new(false) }
    }

    fn file(&self, key: &str) -> Result<PathBuf> {
        assert!(!key.split('/').any(|part| part.is_empty() || part == ".."), "{key}");
        match self.away.load(Ordering::Relaxed) {
            true => Err(Error::outside("the folder is away")),
            false => Ok(self.path.join(key)),
        }
    }

    /// Every file in it, by its key.
    pub fn keys(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, keys: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), root, keys),
                    false => keys.push(entry.path().strip_prefix(root).unwrap().display().to_string()),
                }
            }
        }
        let mut keys = Vec::new();
        walk(&self.path, &self.path, &mut keys);
        keys
    }
}

#[async_trait]
impl Objects for Folder {
    fn folder(&self) -> Option<&Path> {
        Some(&self.path)
    }
    async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        self.put(key, std::fs::read(file).unwrap().into()).await
    }
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let file = self.file(key)?;
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
        Ok(())
    }
    async fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(std::fs::metadata(self.file(key)?).ok().map(|metadata| metadata.len()))
    }
    async fn read(&self, key: &str, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let bytes = Bytes::from(std::fs::read(self.file(key)?).unwrap());
        let parts: Vec<_> = bytes
            .slice(range.start as usize..range.end as usize)
            .chunks(1 << 20)
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        Ok(futures::stream::iter(parts).boxed())
    }
    async fn delete(&self, key: &str) -> Result<()> {
        let _ = std::fs::remove_file(self.file(key)?);
        Ok(())
    }
    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<(String, u64)>>> {
        self.file("any")?;
        let keys = self.keys().into_iter().filter(|key| key.starts_with(prefix)).map(|key| Ok((key, 0)));
        Ok(futures::stream::iter(keys.collect::<Vec<_>>()).boxed())
    }
    async fn signed_url(&self, _: &str, _: Method, _: Duration) -> Result<Option<String>> {
        Ok(None)
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}
