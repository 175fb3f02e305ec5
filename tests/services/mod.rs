//! Apache Kafka, PostgreSQL and S3 for tests: those that `make test` started and names in the environment,
//! else those that `deploy/dev/` starts for this process and that end with it. Tests of every crate include
//! this folder, so it needs the standard library alone.
#![allow(dead_code)] // not every crate uses all of it

mod database;
mod service;

pub use database::Database;
pub use service::{Kind, Service};

use std::io::{Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where objects are stored.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The id of the access key.
    pub key: String,
    /// Its secret.
    pub secret: String,
}

/// The bucket that is there.
pub const BUCKET: &str = "crest";

/// Addresses of the broker that all tests share.
pub fn kafka() -> Result<&'static str> {
    shared(Kind::Kafka, &[("CREST_TEST_KAFKA", "brokers")]).map(|told| told[0].as_str())
}

/// Address of the database server that all tests share, with its administrator.
pub fn postgres() -> Result<&'static str> {
    shared(Kind::Postgres, &[("CREST_TEST_POSTGRES", "url")]).map(|told| told[0].as_str())
}

/// The object storage that all tests share.
pub fn s3() -> Result<S3> {
    let names = [
        ("CREST_TEST_S3", "endpoint"),
        ("CREST_TEST_S3_KEY", "access_key_id"),
        ("CREST_TEST_S3_SECRET", "secret_access_key"),
    ];
    let told = shared(Kind::S3, &names)?;
    Ok(S3 { endpoint: told[0].clone(), key: told[1].clone(), secret: told[2].clone() })
}

/// A name that nobody else uses: in front of topics, for a database, a folder of the bucket.
pub fn own_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros());
    format!("t{now:x}x{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// What a service says of itself: from the environment, else of one that is started now.
fn shared(kind: Kind, names: &[(&str, &str)]) -> Result<&'static [String]> {
    static SHARED: [OnceLock<std::result::Result<Vec<String>, String>>; 3] = [const { OnceLock::new() }; 3];
    let answer = SHARED[kind as usize].get_or_init(|| {
        let given = |(variable, _): &(&str, &str)| std::env::var(variable).ok().filter(|value| !value.is_empty());
        if let Some(told) = names.iter().map(given).collect() {
            return Ok(told);
        }
        let service = Service::new(kind).map_err(|error| error.to_string())?;
        let told = names.iter().map(|(_, key)| service.told(key)).collect();
        // It ends with this process: nothing of it is dropped before.
        std::mem::forget(service);
        Ok(told)
    });
    answer.as_deref().map_err(|error| Error::other(error.clone()))
}
