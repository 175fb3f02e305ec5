//! What must not be forgotten: database, outbox, leases, migrations.
//!
//! [`SqliteStore`] implements every trait of `crest_core::store` on one SQLite file. The SQL is
//! plain, so that PostgreSQL can take its place behind the same traits.

pub mod check;
mod events;
mod fusion_commit;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod highlights;
mod jobs;
mod media_index;
mod migrate;
mod outbox;
mod page;
mod prune;
mod row;
mod streams;
mod tenants;
mod webhooks;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::path::Path;
use std::time::Duration;

use crest_core::store::Store;
use crest_core::{Error, Result};

pub use page::MAX_PAGE;

use migrate::MIGRATIONS;

/// Connections that only read; readers never wait for the writer.
const READERS: u32 = 4;
/// The largest file that is looked through at each start: a second on a slow disk.
const CHECKED_BYTES: u64 = 64 << 20;
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
        check_whole(&writer, path).await.map_err(failed)?;
        migrate::run(&writer, path, &MIGRATIONS).await.map_err(failed)?;
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
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // A COMMIT that failed for want of room was rolled back by SQLite itself, and sqlx still takes
            // the connection to be in that transaction, for ever: another one takes its place.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed) => {
                let stuck = self.writer.acquire().await.map_err(row::db)?;
                if let Err(error) = stuck.close().await {
                    tracing::warn!(%error, "a connection to the database that was stuck did not close");
                }
                self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(row::db)
            }
            begun => begun.map_err(row::db),
        }
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

    async fn take_over(&self) -> Result<()> {
        let mut tx = self.write().await?;
        for free in [
            "UPDATE deliveries SET leased_until = NULL WHERE state = 'pending' AND leased_until IS NOT NULL",
            "UPDATE jobs SET state = 'queued', leased_until = NULL WHERE state = 'running'",
        ] {
            sqlx::query(free).execute(&mut *tx).await.map_err(row::db)?;
        }
        tx.commit().await.map_err(row::db)
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

/// Looks for damage, in a file small enough that nobody waits for it; `crest doctor` looks at any.
/// What a crash left half-written is no damage: SQLite has undone it by then.
async fn check_whole(db: &SqlitePool, path: &Path) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > CHECKED_BYTES) {
        return Ok(());
    }
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(db).await.map_err(row::db)?;
    if found == "ok" { Ok(()) } else { Err(row::damaged(&found)) }
}
