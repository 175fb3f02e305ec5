//! What SQLite says, as errors across stages.

use crest_core::Error;

/// SQLite's primary result code for a full disk.
const DISK_FULL: &str = "13";

/// A failure of the database as an error across stages.
pub(super) fn db(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(e) if e.is_unique_violation() => Error::conflict(format!("it exists already ({e})")),
        sqlx::Error::Database(e) if e.is_foreign_key_violation() => {
            Error::not_found("it refers to something that does not exist")
        }
        sqlx::Error::Database(e) if e.code().as_deref() == Some(DISK_FULL) => {
            Error::full("the disk of the database is full; free some space")
        }
        sqlx::Error::Database(e) if e.code().and_then(|c| c.parse().ok()).is_some_and(is_damage) => {
            damaged(e.message())
        }
        sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            Error::ours(format!("a row does not look as the schema says: {error}"))
        }
        sqlx::Error::PoolTimedOut => Error::outside("the database is busy: no connection became free in time"),
        _ => Error::outside(format!("the database failed: {error}")),
    }
}

/// SQLite's result codes for a damaged file and for one that is no database.
fn is_damage(extended: u32) -> bool {
    matches!(extended & 0xff, 11 | 26)
}

/// The file cannot be trusted any more; trying again cannot help.
pub(super) fn damaged(how: &str) -> Error {
    let message = format!(
        "the database file is damaged ({how}); stop crest, put the data directory aside, and restore crest.db from \
         your backup without the crest.db-wal and crest.db-shm beside it (crest.db.before-* are copies from before \
         upgrades); `crest doctor` tells more"
    );
    Error { retryable: false, ..Error::outside(message) }
}
