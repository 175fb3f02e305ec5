//! The store on PostgreSQL: many processes share it.
//!
//! What SQLite has from its one writer is held by locks here. Transactions read what is committed
//! (`READ COMMITTED`) and lock what they are about to change, always in this order: the partition's claim;
//! the stream; the tenants, sorted (`outbox::lock_organizations`); then highlights, jobs, endpoints,
//! deliveries. Whoever commits events of a tenant has the tenant's row, so positions and sequences count
//! without a gap in the order of the commits. Leases skip what is locked.
//!
//! Tenants are kept apart by row-level security: a transaction says on whose behalf it runs, and sees the
//! rows of that tenant alone. The policies bind the role that crest connects as, the owner of the tables too.
//! They guard against a query that forgets its tenant; whoever may run SQL of their own as that role is not
//! held back by them.

#![allow(clippy::duplicate_mod)] // the queries are written once and compiled once per database

use async_trait::async_trait;
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;

use crest_core::store::Store;
use crest_core::{Error, Result};

use crate::config::DatabaseConfig;
use crate::transaction::{Failure, Judge, Outcome, Whose};

/// What takes a row for the transaction, and leaves it to others to refer to.
macro_rules! lock_row {
    () => {
        " FOR NO KEY UPDATE"
    };
}
/// What takes rows that nobody else has.
macro_rules! skip_locked {
    () => {
        " FOR UPDATE SKIP LOCKED"
    };
}

mod check;
mod connect;
mod error;
mod migrate;
mod transaction;

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

pub use check::{Served, examine};

// What the queries call the database.
use PostgresStore as DbStore;
use sqlx::Postgres as Db;
use sqlx::postgres::PgRow as DbRow;
use transaction::Transaction as Tx;
/// Whether no two transactions that write are ever under way together.
const SINGLE_WRITER: bool = false;

/// Names the lock that whoever leases deliveries has.
const TURN: i64 = 0x6372_6573_745f_6f62;

/// The store on PostgreSQL. Cheap to clone; all clones share the connections.
///
/// A call that fails because the server went away may have been committed all the same. Each may be made
/// again: what is there already is left as it is. What that means to the caller:
///
/// | method | done again |
/// |---|---|
/// | `create_stream`, `create_endpoint` | a conflict says that it is there |
/// | `create_organization` | answers the tenant that was made, for the same name and key |
/// | `start_session` | answers the session that was started, for the same instant and instance |
/// | `transition_stream`, `delete_endpoint` | answers `false` |
/// | `claim_partition` | makes the first claim void |
/// | `lease_job`, `lease_deliveries` | what was leased comes back when the lease runs out |
/// | all others | answer as the first time |
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
    bounds: Arc<Bounds>,
}

/// What every clone knows of its connections.
#[derive(Debug)]
struct Bounds {
    /// Where the database is, for messages: nothing secret.
    place: String,
    /// How long an attempt at a transaction may take, its connection included.
    limit: Duration,
    /// How often a transaction is tried at most: every idle connection may turn out to be a dead one.
    attempts: u32,
}

impl PostgresStore {
    /// Connects to the database that `database.url` names, brings its schema up to date where no other
    /// process does, and makes sure that tenants are kept apart.
    ///
    /// Fails with an error that is retryable where the server cannot be reached, and with one that is not
    /// where trying again cannot help: wrong credentials, no such database, something else than PostgreSQL, a
    /// role that may see everything, a schema of a newer crest.
    pub async fn open(config: &DatabaseConfig) -> Result<PostgresStore> {
        config.check()?;
        let (options, place) = connect::options(config)?;
        let failed = |error: Error| error.context(format!("cannot open the database {place} (database.url)"));
        let asked = connect::prepare(&options, config).await.map_err(failed)?;
        let pool = connect::pool(asked, config);
        let limit = config.acquire_timeout.0.saturating_add(config.timeout.0);
        let attempts = config.max_connections.saturating_add(4);
        Ok(Self { pool, bounds: Arc::new(Bounds { place, limit, attempts }) })
    }

    /// Begins a transaction that may write. It sees what is committed, each statement anew, so that a row
    /// that was waited for is read as it is now.
    async fn begin_change(&self, whose: Whose<'_>) -> Outcome<Tx> {
        Tx::begin(&self.pool, "BEGIN ISOLATION LEVEL READ COMMITTED", whose).await
    }

    /// Begins a transaction that sees one state of everything.
    async fn begin_look(&self, whose: Whose<'_>) -> Outcome<Tx> {
        Tx::begin(&self.pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", whose).await
    }

    /// Nothing is waited for.
    #[allow(clippy::unused_self)] // another database has less to do
    fn end_look(&self, transaction: Tx) {
        transaction.end_behind();
    }

    /// A connection that is of no use any more is closed when the transaction is dropped.
    async fn take_back(&self, transaction: Tx, failure: &Failure) {
        if !error::spoils(failure) {
            transaction.rollback().await;
        }
    }

    /// A server may neither answer nor go away. What is dropped here closes its connection.
    async fn within<T>(&self, attempt: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        tokio::time::timeout(self.bounds.limit, attempt).await.unwrap_or(Err(Failure::Slow))
    }
}

impl Judge for PostgresStore {
    fn most_attempts(&self) -> u32 {
        self.bounds.attempts
    }

    fn again(&self, failure: &Failure) -> bool {
        error::passes_at_once(failure)
    }

    fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Said(error) => error,
            Failure::Began(error) | Failure::Database(error) => error::db(&error, &self.bounds.place),
            Failure::Slow => Error::outside(format!(
                "the database {} (database.url) did not answer within {:?}",
                self.bounds.place, self.bounds.limit
            )),
        }
    }
}

/// Makes the caller the only one who leases deliveries until its transaction is over.
async fn take_turn(tx: &mut Tx) -> Outcome<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(TURN).execute(&mut **tx).await?;
    Ok(())
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<()> {
        change!(self, "ping", Whose::All, |tx| {
            // A standby answers too, but takes nothing.
            let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut **tx).await?;
            if standby { Err(error::only_reads(&self.bounds.place).into()) } else { Ok(()) }
        })
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
