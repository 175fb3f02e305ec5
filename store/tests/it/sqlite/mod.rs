//! A file of one process.

mod damage;
mod first_schema;
mod full;
mod gone;
mod schema;
mod upgrade;

#[path = "../conformance/events.rs"]
mod events;
#[path = "../conformance/fusion.rs"]
mod fusion;
#[path = "../conformance/instances.rs"]
mod instances;
#[path = "../conformance/jobs.rs"]
mod jobs;
#[path = "../conformance/media.rs"]
mod media;
#[path = "../conformance/prune.rs"]
mod prune;
#[path = "../conformance/shared.rs"]
mod shared;
#[path = "../conformance/streams.rs"]
mod streams;
#[path = "../conformance/tenants.rs"]
mod tenants;
#[path = "../conformance/webhooks.rs"]
mod webhooks;
#[path = "../conformance/world.rs"]
mod world;

use crest_core::store::SharedStore;
use crest_store::{Database, DatabaseConfig, SqliteStore};
use sqlx::{Connection, SqliteConnection};
use std::path::PathBuf;
use std::sync::Arc;

/// Where the file of a test is.
pub struct Home {
    pub folder: tempfile::TempDir,
}

impl Home {
    pub async fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("crest.db")
    }

    pub async fn open(&self) -> SharedStore {
        Database::open(&DatabaseConfig::default(), &self.file()).await.unwrap().shared()
    }

    /// The store as a process finds it that starts after this one was killed now: on a copy of what
    /// the operating system has of the files, while this one still holds them open.
    pub async fn after_a_kill(&self) -> SharedStore {
        let copy = self.folder.path().join("after");
        std::fs::create_dir_all(&copy).unwrap();
        for name in ["crest.db", "crest.db-wal"] {
            std::fs::copy(self.folder.path().join(name), copy.join(name)).unwrap();
        }
        Arc::new(SqliteStore::open(&copy.join("crest.db")).await.unwrap())
    }

    pub async fn raw(&self) -> SqliteConnection {
        SqliteConnection::connect(&format!("sqlite://{}", self.file().display())).await.unwrap()
    }

    /// Rows of a table, which may be followed by a condition.
    pub async fn count(&self, table: &str) -> i64 {
        let text = format!("SELECT COUNT(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&mut self.raw().await).await.unwrap()
    }

    /// Step, from, to and reason of each step of the streams.
    pub async fn history(&self) -> Vec<(i64, String, String, Option<String>)> {
        sqlx::query_as("SELECT step, from_state, to_state, reason FROM stream_history ORDER BY step")
            .fetch_all(&mut self.raw().await)
            .await
            .unwrap()
    }

    pub async fn fusion_reached(&self) -> Option<u64> {
        let database = Database::open(&DatabaseConfig::default(), &self.file()).await.unwrap();
        database.fusion_reached().await.unwrap()
    }
}
