//! The homes of finished files: the data directory, and a bucket of a real S3 server.

mod counts;
mod faults;
mod links;
mod rules;
pub mod server;

use bytes::Bytes;
use bytesize::ByteSize;
use crest_core::Result;
use crest_core::objects::{Objects, SharedObjects};
use crest_core::units::Span;
use crest_store::objects::{Secret, StorageConfig, open};
use futures::{StreamExt, TryStreamExt};
use server::{Server, own_url};
use std::collections::BTreeMap;
use std::path::Path;

/// A bucket's folder of its own, with small parts.
fn bucket(server: &Server, endpoint: &str) -> StorageConfig {
    StorageConfig {
        url: Some(own_url()),
        endpoint: Some(endpoint.to_owned()),
        access_key_id: Some(Secret::new(&server.key)),
        secret_access_key: Some(Secret::new(&server.secret)),
        part_bytes: ByteSize::mib(5),
        timeout: Span::secs(5),
        retries: 2,
        ..StorageConfig::default()
    }
}

fn s3() -> SharedObjects {
    let server = Server::shared();
    open(&bucket(server, &server.endpoint), Path::new("/nowhere")).unwrap()
}

async fn whole(objects: &dyn Objects, key: &str) -> Result<Vec<u8>> {
    let size = objects.size(key).await?.unwrap_or(1);
    part(objects, key, 0..size).await
}

async fn part(objects: &dyn Objects, key: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let parts: Vec<Bytes> = objects.read(key, range).await?.try_collect().await?;
    Ok(parts.concat())
}

async fn listed(objects: &dyn Objects, prefix: &str) -> BTreeMap<String, u64> {
    objects.list(prefix).await.unwrap().map(|object| object.unwrap()).collect().await
}

/// Bytes that are different wherever one looks.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}
