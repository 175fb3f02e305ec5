//! The store on one SQLite file: one process, no server.

#![allow(clippy::duplicate_mod)] // the queries are written once and compiled once per database

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::path::Path;
use std::time::Duration;

use crest_core::store::Store;
use crest_core::{Error, Result};

use crate::transaction::{Failure, Judge, Outcome, Whose};

/// What takes a row for the transaction: there is one writer at a time.
macro_rules! lock_row {
    () => {
        ""
    };
}
/// What takes rows that nobody else has.
macro_rules! skip_locked {
    () => {
        ""
    };
}

pub mod check;
mod error;
mod migrate;

#[path = "../queries/events.rs"]
mod events;
#[path = "../queries/fusion_commit.rs"]
mod fusion_commit;
#[path = "../queries/highlights.rs"]
mod highlights;
#[path = "../queries/instances.rs"]
mod instances;
#[path = "../queries/jobs.rs"]
mod jobs;
#[path = "../queries/leases.rs"]
mod leases;
#[path = "../queries/media_index.rs"]
mod media_index;
#[path = "../queries/outbox.rs"]
mod outbox;
#[path = "../queries/prune.rs"]
mod prune;
#[path = "../queries/row.rs"]
mod row;
#[path = "../queries/streams.rs"]
mod streams;
#[path = "../queries/tenants.rs"]
mod tenants;
#[path = "../queries/webhooks.rs"]
mod webhooks;

use migrate::MIGRATIONS;

// What the queries call the database.
use SqliteStore as DbStore;
use sqlx::Sqlite as Db;
use sqlx::sqlite::SqliteRow as DbRow;
type Tx = Transaction<'static, Sqlite>;
/// Whether no two transactions that write are ever under way together.
const SINGLE_WRITER: bool = true;

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
            .map_err(|e| failed(error::db(e)))?;
        check_whole(&writer, path).await.map_err(failed)?;
        migrate::run(&writer, path, &MIGRATIONS).await.map_err(failed)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.pragma("query_only", "on"))
            .await
            .map_err(|e| failed(error::db(e)))?;
        Ok(Self { writer, readers })
    }

    /// Begins a transaction that may write. It takes the write lock at once, so that what it reads
    /// stays true until it commits.
    async fn begin_change(&self, _: Whose<'_>) -> Outcome<Tx> {
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // A COMMIT that failed for want of room was rolled back by SQLite itself, and sqlx still takes
            // the connection to be in that transaction, for ever: another one takes its place.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed) => {
                let stuck = self.writer.acquire().await?;
                if let Err(error) = stuck.close().await {
                    tracing::warn!(%error, "a connection to the database that was stuck did not close");
                }
                Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            begun => Ok(begun?),
        }
    }

    async fn begin_look(&self, _: Whose<'_>) -> Outcome<Tx> {
        Ok(self.readers.begin().await?)
    }

    /// Nothing is waited for: the connection rolls back before its next use.
    #[allow(clippy::unused_self)] // another database has more to do
    fn end_look(&self, transaction: Tx) {
        drop(transaction);
    }

    /// A failure to roll back shows when the connection is used next.
    async fn take_back(&self, transaction: Tx, _: &Failure) {
        let _ = transaction.rollback().await;
    }

    /// A local file answers.
    async fn within<T>(&self, attempt: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        attempt.await
    }
}

impl Judge for SqliteStore {
    fn most_attempts(&self) -> u32 {
        1
    }

    fn again(&self, _: &Failure) -> bool {
        false
    }

    fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Said(error) => error,
            Failure::Began(error) | Failure::Database(error) => error::db(error),
            Failure::Slow => Error::outside("the database takes too long"),
        }
    }
}

/// There is one writer: what it counts stays so until it commits.
async fn take_turn(_: &mut Tx) -> Outcome<()> {
    Ok(())
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<()> {
        look!(self, Whose::All, |tx| {
            let _: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM organizations").fetch_one(&mut **tx).await?;
            Ok(())
        })?;
        // The writer too: it is the one that a stuck transaction would hold.
        let turn = self.begin_change(Whose::All).await.map_err(|failure| self.error(failure))?;
        turn.rollback().await.map_err(error::db)
    }

    async fn take_over(&self) -> Result<()> {
        change!(self, "take_over", Whose::All, |tx| {
            for free in [
                "UPDATE deliveries SET leased_until = NULL WHERE state = 'pending' AND leased_until IS NOT NULL",
                "UPDATE jobs SET state = 'queued', leased_until = NULL WHERE state = 'running'",
            ] {
                sqlx::query(free).execute(&mut **tx).await?;
            }
            Ok(())
        })
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
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
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(db).await.map_err(error::db)?;
    if found == "ok" { Ok(()) } else { Err(error::damaged(&found)) }
}
