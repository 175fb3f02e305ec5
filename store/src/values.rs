//! Values as every database keeps them, and what is wrong with one that cannot be.

use crest_core::trace::Trace;
use crest_core::{Error, Result, Session};

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

/// As the databases keep traces.
pub(crate) fn trace(trace: Option<Trace>) -> Option<String> {
    trace.map(|trace| trace.to_string())
}

/// Whether a text can be kept at all: PostgreSQL has no room for the character NUL. Nothing is known
/// under one that cannot.
pub(crate) fn can_be_kept(text: &str) -> bool {
    !text.contains('\0')
}

pub(crate) fn broken(column: &str) -> Error {
    Error::ours(format!("column '{column}' holds a value this build does not know"))
}
