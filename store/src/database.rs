//! The database that the configuration asks for.

use std::path::Path;
use std::sync::Arc;

use crest_core::Result;
use crest_core::store::SharedStore;

use crate::{DatabaseConfig, PostgresStore, SqliteStore};

/// A database that is open. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file: one process has it.
    Sqlite(SqliteStore),
    /// A server that many processes share.
    Postgres(PostgresStore),
}

impl Database {
    /// Opens the database that `database.url` names or, without it, the SQLite file at `file`, and brings its
    /// schema up to date.
    ///
    /// An error that is retryable passes when the server comes back; any other needs a person.
    pub async fn open(config: &DatabaseConfig, file: &Path) -> Result<Database> {
        match &config.url {
            Some(_) => PostgresStore::open(config).await.map(Self::Postgres),
            None => SqliteStore::open(file).await.map(Self::Sqlite),
        }
    }

    /// As its users see it.
    pub fn shared(&self) -> SharedStore {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// The highest offset of partition 0 of the signals log that is part of anything committed: the
    /// embedded bus, which has no other, counts on from it wherever its log ends now.
    pub async fn fusion_reached(&self) -> Result<Option<u64>> {
        match self {
            Self::Sqlite(store) => store.fusion_reached().await,
            Self::Postgres(store) => store.fusion_reached().await,
        }
    }
}
