//! What must not be forgotten: database, outbox, leases, migrations.
//!
//! [`SqliteStore`] implements every trait of `crest_core::store` on one SQLite file. The SQL is
//! plain, so that PostgreSQL can take its place behind the same traits.

mod fusion_commit;
mod highlights;
mod jobs;
mod media_index;
mod outbox;
mod page;
mod row;
mod streams;
mod tenants;
mod webhooks;

use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::path::Path;
use std::time::Duration;

use crest_core::store::Store;
use crest_core::{Error, Result};

pub use page::MAX_PAGE;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections that only read; readers never wait for the writer.
const READERS: u32 = 4;
/// How long a connection waits for another process that holds the file, a backup for instance.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// The store on SQLite. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    /// One connection: writers queue for it here and never meet a locked database.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the database file at `path`, creates it where there is none, and brings its schema up
    /// to date.
    ///
    /// Fails where the file cannot be used, and where a newer crest has written it: that one is left
    /// untouched.
    pub async fn open(path: &Path) -> Result<SqliteStore> {
        let failed = |e: Error| e.context(format!("cannot open the database {}", path.display()));
        create_private(path).map_err(|e| failed(Error::outside(e.to_string())))?;
        // FULL: each commit waits for the disk. With NORMAL a loss of power could take back a commit
        // whose webhook has left, and what is then decided again might leave under another sequence.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_LIMIT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await
            .map_err(|e| failed(row::db(e)))?;
        MIGRATIONS.run(&writer).await.map_err(|e| failed(migration(e)))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.pragma("query_only", "on"))
            .await
            .map_err(|e| failed(row::db(e)))?;
        Ok(Self { writer, readers })
    }

    /// Waits for what is running and closes the file. Not needed for anything to be kept.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Begins a transaction that may write. It takes the write lock at once, so that what it reads
    /// stays true until it commits.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(row::db)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<()> {
        let _: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM organizations").fetch_one(&self.readers).await.map_err(row::db)?;
        // The writer too: it is the one that a stuck transaction would hold.
        self.write().await?.rollback().await.map_err(row::db)
    }
}

/// Creates the file readable by its owner alone, for it holds stream keys and signing secrets; the
/// files SQLite puts beside it take over its permissions.
fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

fn migration(error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) => Error::user(format!(
            "a newer version of crest has written it (schema {version}); \
             start that version, or restore a backup from before the upgrade"
        )),
        MigrateError::VersionMismatch(version) => Error::user(format!(
            "its schema {version} is not the one this build knows; it was written by a build from other sources"
        )),
        other => Error::outside(format!("bringing the schema up to date failed: {other}")),
    }
}
