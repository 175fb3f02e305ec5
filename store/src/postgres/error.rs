//! What PostgreSQL says, as errors across stages.

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use std::io::ErrorKind;

use crest_core::Error;

use crate::transaction::Failure;

/// PostgreSQL's code of an error, where it said something.
fn code(error: &sqlx::Error) -> Option<&str> {
    said(error).map(PgDatabaseError::code)
}

fn said(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()
}

/// Whether the connection is of no use any more.
fn lost(error: &sqlx::Error) -> bool {
    use sqlx::Error::{AnyDriverError, Database, Io, Protocol, Tls, WorkerCrashed};
    match error {
        Database(_) => said(error).is_some_and(|e| matches!(e.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
        Io(_) | Tls(_) | Protocol(_) | WorkerCrashed | AnyDriverError(_) => true,
        _ => false,
    }
}

/// Whether a connection has statements prepared for a schema that has changed since.
fn outdated(error: &sqlx::Error) -> bool {
    code(error) == Some("0A000") && said(error).is_some_and(|e| e.message().contains("cached plan"))
}

/// Whether the connection that met the failure is not to be used again.
pub(super) fn spoils(failure: &Failure) -> bool {
    match failure {
        Failure::Said(_) => false,
        Failure::Began(error) | Failure::Database(error) => lost(error) || outdated(error),
        Failure::Slow => true,
    }
}

/// Whether somebody else added the row of the same segment in the same moment. `ON CONFLICT` waits at one of the two
/// indexes that say so, and the other may be met first; a moment later it is simply there.
fn overtaken(error: &sqlx::Error) -> bool {
    const SEGMENT: &str = "segments_organization_id_object_key";
    code(error) == Some("23505") && said(error).is_some_and(|e| e.constraint() == Some(SEGMENT))
}

/// Whether nothing was changed, and the same may succeed at once: others were in the way (a serialization
/// failure, a deadlock, a row added at the same time), or the connection was a dead one before anything was asked of
/// it.
pub(super) fn passes_at_once(failure: &Failure) -> bool {
    let others = |error| matches!(code(error), Some("40001" | "40P01")) || outdated(error) || overtaken(error);
    match failure {
        Failure::Began(error) => lost(error) || others(error),
        Failure::Database(error) => others(error),
        Failure::Said(_) | Failure::Slow => false,
    }
}

/// A failure while crest runs. Whatever the server refuses then, it once did not: waiting may help.
pub(super) fn db(error: &sqlx::Error, place: &str) -> Error {
    let outside = |what: &str| Error::outside(format!("the database {place} (database.url) {what}: {error}"));
    let Some(e) = said(error) else {
        return match error {
            sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Error::ours(format!("a row does not look as the schema says: {error}"))
            }
            sqlx::Error::RowNotFound => Error::ours("a row that must be there is not"),
            sqlx::Error::PoolTimedOut => Error::outside(format!(
                "no connection to the database {place} (database.url) within database.acquire_timeout: it is away, or \
                 all of database.max_connections are busy"
            )),
            sqlx::Error::Io(_) => outside("broke the connection or cannot be reached"),
            _ => outside("failed"),
        };
    };
    match e.code() {
        "23505" => Error::conflict(format!("it exists already ({e})")),
        "23503" => Error::not_found("it refers to something that does not exist"),
        // Characters that PostgreSQL keeps in no text.
        "22021" | "22P05" => Error::user("a text holds a character that the database cannot keep, such as NUL"),
        "53100" => Error::full(format!("the disk of the database {place} is full; free some space there")),
        "53300" => outside("takes no more connections; lower database.max_connections or raise its max_connections"),
        "55P03" => outside("did not free a row within database.lock_timeout"),
        "57014" => outside("did not finish within database.timeout"),
        "25006" => only_reads(place),
        "42501" if e.message().contains("row-level security") => {
            Error::ours(format!("something of one tenant was to become another's: {e}"))
        }
        _ => outside("failed"),
    }
}

/// The server is a standby: another may have taken over, or it may yet be promoted.
pub(super) fn only_reads(place: &str) -> Error {
    only_reads_here().context(format!("the database {place} (database.url)"))
}

/// As [`only_reads`], of a database that is named elsewhere.
pub(super) fn only_reads_here() -> Error {
    Error::outside("the server is a standby that takes no changes; point database.url at the primary")
}

/// A failure before crest runs: what a person has to mend is told apart from what passes.
pub(super) fn at_start(error: &sqlx::Error) -> Error {
    let Some(e) = said(error) else {
        return match error {
            sqlx::Error::Io(io) if io.kind() != ErrorKind::InvalidData => {
                Error::outside(format!("it does not answer: {io}"))
            }
            sqlx::Error::Protocol(_) | sqlx::Error::Io(_) => {
                Error::user(format!("what answers there is not PostgreSQL ({error}); correct host and port"))
            }
            sqlx::Error::Tls(_) => Error::user(format!(
                "encryption as sslmode asks for it is not possible: {error}; see sslmode and sslrootcert in the address"
            )),
            sqlx::Error::Configuration(_) => Error::user(format!("the address cannot be used: {error}")),
            _ => Error::outside(format!("it failed: {error}")),
        };
    };
    match e.code() {
        "28000" if e.message().contains("no encryption") || e.message().contains("SSL off") => {
            Error::user(format!("the server wants encryption ({e}); append ?sslmode=require to the address"))
        }
        "28P01" | "28000" => Error::user(format!(
            "the server refuses these credentials ({e}); correct user and password, or let them in by its pg_hba.conf"
        )),
        "3D000" => Error::user(format!("there is no such database ({e}); create it: createdb --owner=ROLE NAME")),
        "42501" => Error::user(format!("the role may not do what crest needs ({e}); let it own the database")),
        "22023" | "42704" => Error::user(format!("the server refuses a setting in the address ({e})")),
        _ => Error::outside(format!("it failed: {e}")),
    }
}
