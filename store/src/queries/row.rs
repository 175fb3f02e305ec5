//! Between rows and values: typed columns, checked numbers.

use sqlx::Row;

use crest_core::trace::Trace;
use crest_core::{MediaTime, Session, WallTime};

use super::{Db, DbRow};
use crate::transaction::Outcome;
use crate::values::broken;

/// A column by name.
pub(crate) fn get<'r, T>(row: &'r DbRow, column: &str) -> Outcome<T>
where
    T: sqlx::Decode<'r, Db> + sqlx::Type<Db>,
{
    Ok(row.try_get(column)?)
}

/// A count that is never negative.
pub(crate) fn get_u64(row: &DbRow, column: &str) -> Outcome<u64> {
    let value: i64 = get(row, column)?;
    Ok(u64::try_from(value).map_err(|_| broken(column))?)
}

/// A small count that is never negative.
pub(crate) fn get_u32(row: &DbRow, column: &str) -> Outcome<u32> {
    let value: i64 = get(row, column)?;
    Ok(u32::try_from(value).map_err(|_| broken(column))?)
}

pub(crate) fn get_session(row: &DbRow, column: &str) -> Outcome<Session> {
    get_u32(row, column).map(Session::new)
}

/// A session that may be none.
pub(crate) fn get_some_session(row: &DbRow, column: &str) -> Outcome<Option<Session>> {
    match get::<Option<i64>>(row, column)? {
        Some(_) => get_session(row, column).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn get_wall(row: &DbRow, column: &str) -> Outcome<WallTime> {
    get(row, column).map(WallTime)
}

pub(crate) fn get_media(row: &DbRow, column: &str) -> Outcome<MediaTime> {
    get(row, column).map(MediaTime::from_nanos)
}

/// A trace, which decides nothing: one that cannot be read is none.
pub(crate) fn get_trace(row: &DbRow, column: &str) -> Outcome<Option<Trace>> {
    Ok(get::<Option<&str>>(row, column)?.and_then(|text| text.parse().ok()))
}

/// A structured value, which may be missing.
pub(crate) fn get_json<T: serde::de::DeserializeOwned>(row: &DbRow, column: &str) -> Outcome<Option<T>> {
    let text = get::<Option<&str>>(row, column)?;
    Ok(text.map(serde_json::from_str).transpose().map_err(|_| broken(column))?)
}

/// A named value (a state, a kind) through its parser.
pub(crate) fn get_named<T>(row: &DbRow, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> Outcome<T> {
    let name: &str = get(row, column)?;
    Ok(parse(name).ok_or_else(|| broken(column))?)
}
