//! A server that many processes share.

mod apart;
mod errors;
mod faults;
mod leases;
mod many;
mod order;
mod proxy;
mod schema;
mod server;

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
use crest_store::{Database, DatabaseConfig, PostgresStore};
use server::{Owned, Server};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::path::Path;
use std::sync::Arc;

/// The database of a test.
pub struct Home {
    pub database: Owned,
}

impl Home {
    pub async fn new() -> Home {
        Home { database: Server::shared().database().await }
    }

    /// As crest is configured for it.
    pub fn config(&self) -> DatabaseConfig {
        DatabaseConfig { url: Some(self.database.url.clone()), ..DatabaseConfig::default() }
    }

    pub async fn open(&self) -> SharedStore {
        Database::open(&self.config(), Path::new("/nowhere")).await.unwrap().shared()
    }

    /// The store as a process finds it that starts after this one was killed now, while the server has
    /// not noticed yet.
    pub async fn after_a_kill(&self) -> SharedStore {
        Arc::new(PostgresStore::open(&self.config()).await.unwrap())
    }

    /// A connection of the program's own role, as a query would have it that forgot to say whose it is.
    pub async fn raw(&self) -> PgConnection {
        PgConnection::connect(&self.database.url).await.unwrap()
    }

    /// One that speaks for everybody.
    pub async fn everybodys(&self) -> PgConnection {
        let mut raw = self.raw().await;
        speak_for(&mut raw, "*").await;
        raw
    }

    /// Rows of a table, which may be followed by a condition.
    pub async fn count(&self, table: &str) -> i64 {
        count(&mut self.everybodys().await, table).await
    }

    /// Step, from, to and reason of each step of the streams.
    pub async fn history(&self) -> Vec<(i64, String, String, Option<String>)> {
        sqlx::query_as("SELECT step, from_state, to_state, reason FROM stream_history ORDER BY step")
            .fetch_all(&mut self.everybodys().await)
            .await
            .unwrap()
    }

    pub async fn fusion_reached(&self) -> Option<u64> {
        PostgresStore::open(&self.config()).await.unwrap().fusion_reached().await.unwrap()
    }
}

async fn speak_for(connection: &mut PgConnection, whose: &str) {
    let set = "SELECT set_config('crest.organization_id', $1, false)";
    sqlx::query(set).bind(whose).execute(connection).await.unwrap();
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let text = format!("SELECT COUNT(*) FROM {table}");
    sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(connection).await.unwrap()
}
