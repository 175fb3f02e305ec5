//! Where finished files lie: segments, clips, thumbnails, and payloads too large for the bus.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;

/// How a signed address may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// For the object.
    Get,
    /// For what is known of it.
    Head,
}

/// Files under keys (`core/src/object.rs`). An object is there whole or not at all.
///
/// A folder of this machine is one home, an S3 bucket the other. What is written there first comes from a
/// file of the data directory with the same path as the key, so in the first home nothing moves.
#[async_trait]
pub trait Objects: Send + Sync {
    /// The folder in which the objects lie as files under their keys, where they do.
    fn folder(&self) -> Option<&Path>;
    /// Stores the file under `key`, replacing what is there. Returns once it survives a crash.
    async fn put_file(&self, key: &str, file: &Path) -> Result<()>;
    /// Stores bytes under `key`, replacing what is there.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()>;
    /// The object's size in bytes; `None` where there is none.
    async fn size(&self, key: &str) -> Result<Option<u64>>;
    /// The bytes in `range`, as they arrive. `NotFound` where the object is not there, or has fewer.
    async fn read(&self, key: &str, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>>;
    /// Removes the object; nothing happens where there is none.
    async fn delete(&self, key: &str) -> Result<()>;
    /// The keys that begin with `prefix`, a folder, with sizes; in no order.
    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<(String, u64)>>>;
    /// An address under which the object can be read by `method` without credentials for so long; `None`
    /// where the home has no such addresses. Whether the object is there is not asked.
    async fn signed_url(&self, key: &str, method: Method, valid: Duration) -> Result<Option<String>>;
    /// Whether it can be reached and used.
    async fn ping(&self) -> Result<()>;
}

/// A shared home of objects.
pub type SharedObjects = Arc<dyn Objects>;
