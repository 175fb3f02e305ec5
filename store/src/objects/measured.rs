//! Counts what is asked of the home of finished files, whichever it is.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use crest_core::objects::{Method, Objects};
use crest_core::{Error, Fault, Result};
use futures::StreamExt;
use futures::stream::BoxStream;

/// A home whose requests are counted.
#[derive(Debug)]
pub(super) struct Measured<T>(pub(super) T);

/// Counts a request that is over.
fn note<T>(operation: &'static str, began: Instant, done: &Result<T>) {
    metrics::histogram!("crest_objects_seconds", "operation" => operation).record(began.elapsed().as_secs_f64());
    count(operation, outcome(done.as_ref().err()));
}

fn count(operation: &'static str, outcome: &'static str) {
    metrics::counter!("crest_objects_requests_total", "operation" => operation, "outcome" => outcome).increment(1);
}

fn outcome(error: Option<&Error>) -> &'static str {
    match error.map(|e| (e.fault, e.retryable)) {
        None => "ok",
        Some((Fault::NotFound, _)) => "not_found",
        Some((_, true)) => "unavailable",
        Some((_, false)) => "refused",
    }
}

fn moved(direction: &'static str, bytes: u64) {
    metrics::counter!("crest_objects_bytes_total", "direction" => direction).increment(bytes);
}

#[async_trait]
impl<T: Objects> Objects for Measured<T> {
    fn folder(&self) -> Option<&Path> {
        self.0.folder()
    }

    async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        // Where it lies under its key already, nothing moves and there is nothing to count.
        if self.0.folder().is_some_and(|folder| folder.join(key) == file) {
            return self.0.put_file(key, file).await;
        }
        let began = Instant::now();
        let bytes = tokio::fs::metadata(file).await.map_or(0, |file| file.len());
        let done = self.0.put_file(key, file).await;
        note("put", began, &done);
        if done.is_ok() {
            moved("out", bytes);
        }
        done
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let (began, length) = (Instant::now(), bytes.len() as u64);
        let done = self.0.put(key, bytes).await;
        note("put", began, &done);
        if done.is_ok() {
            moved("out", length);
        }
        done
    }

    async fn size(&self, key: &str) -> Result<Option<u64>> {
        let began = Instant::now();
        let done = self.0.size(key).await;
        note("size", began, &done);
        done
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let began = Instant::now();
        let done = self.0.read(key, range).await;
        note("read", began, &done);
        // What fails on the way was counted as begun; a second entry says how it ended.
        let told = |part: &Result<Bytes>| match part {
            Ok(bytes) => moved("in", bytes.len() as u64),
            Err(error) => count("read", outcome(Some(error))),
        };
        Ok(done?.inspect(told).boxed())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let began = Instant::now();
        let done = self.0.delete(key).await;
        note("delete", began, &done);
        done
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<(String, u64)>>> {
        let began = Instant::now();
        let done = self.0.list(prefix).await;
        note("list", began, &done);
        done
    }

    async fn signed_url(&self, key: &str, method: Method, valid: Duration) -> Result<Option<String>> {
        self.0.signed_url(key, method, valid).await
    }

    async fn ping(&self) -> Result<()> {
        let began = Instant::now();
        let done = self.0.ping().await;
        note("ping", began, &done);
        done
    }
}
