//! What must not be forgotten: database, outbox, leases, migrations; and where media lies.
//!
//! The traits of `crest_core::store` are implemented once, in `queries/`, in SQL that SQLite and PostgreSQL
//! both understand. Each database compiles these files as its own modules (`sqlite/`, `postgres/`), which
//! say how a transaction begins, what locks a row, and what a failure means.

#[macro_use]
mod transaction;

mod config;
mod database;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod objects;
mod page;
mod postgres;
mod sqlite;
mod values;

pub use config::DatabaseConfig;
pub use database::Database;
pub use page::MAX_PAGE;
pub use postgres::{PostgresStore, Served, examine};
pub use sqlite::{SqliteStore, check};
