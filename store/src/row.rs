//! Between rows and values: typed columns, checked numbers, and database failures as errors.

use sqlx::Row;
use sqlx::sqlite::{Sqlite, SqliteRow};

use crest_core::{Error, MediaTime, Result, Session, WallTime};

/// SQLite's primary result code for a full disk.
const DISK_FULL: &str = "13";

/// A failure of the database as an error across stages.
pub(crate) fn db(error: sqlx::Error) -> Error {
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
pub(crate) fn damaged(how: &str) -> Error {
    let message = format!(
        "the database file is damaged ({how}); stop crest, put the data directory aside, and restore crest.db from \
         your backup without the crest.db-wal and crest.db-shm beside it (crest.db.before-* are copies from before \
         upgrades); `crest doctor` tells more"
    );
    Error { retryable: false, ..Error::outside(message) }
}

/// A column by name.
pub(crate) fn get<'r, T>(row: &'r SqliteRow, column: &str) -> Result<T>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(column).map_err(db)
}

/// A count that is never negative.
pub(crate) fn get_u64(row: &SqliteRow, column: &str) -> Result<u64> {
    let value: i64 = get(row, column)?;
    u64::try_from(value).map_err(|_| broken(column))
}

/// A small count that is never negative.
pub(crate) fn get_u32(row: &SqliteRow, column: &str) -> Result<u32> {
    let value: i64 = get(row, column)?;
    u32::try_from(value).map_err(|_| broken(column))
}

pub(crate) fn get_session(row: &SqliteRow, column: &str) -> Result<Session> {
    get_u32(row, column).map(Session::new)
}

pub(crate) fn get_wall(row: &SqliteRow, column: &str) -> Result<WallTime> {
    get(row, column).map(WallTime)
}

pub(crate) fn get_media(row: &SqliteRow, column: &str) -> Result<MediaTime> {
    get(row, column).map(MediaTime::from_nanos)
}

/// A named value (a state, a kind) through its parser.
pub(crate) fn get_named<T>(row: &SqliteRow, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    let name: &str = get(row, column)?;
    parse(name).ok_or_else(|| broken(column))
}

/// A structured value kept as JSON text.
pub(crate) fn from_json<T>(text: &str, parse: impl FnOnce(&str) -> serde_json::Result<T>) -> Result<T> {
    parse(text).map_err(|e| Error::ours(format!("a stored JSON value cannot be read: {e}")))
}

/// As the databases keep numbers.
pub(crate) fn int(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::ours(format!("{value} is too large for the database")))
}

/// As the databases keep sessions.
pub(crate) fn session(session: Session) -> i64 {
    i64::from(session.number())
}

pub(crate) fn broken(column: &str) -> Error {
    Error::ours(format!("column '{column}' holds a value this build does not know"))
}
