//! A transaction from its beginning to its commit, the same for every database: what the queries do in
//! it, on whose behalf, how often it is tried, and how long it took.

use std::time::{Duration, Instant};

use crest_core::{Error, OrganizationId, Result};

/// Whose rows a transaction is about. A database that keeps tenants apart shows it no others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Everybody's.
    All,
    /// One tenant's.
    Of(&'a OrganizationId),
}

/// Why a transaction came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something crest has to say.
    Said(Error),
    /// Something the database said before anything was changed.
    Began(sqlx::Error),
    /// Something the database said.
    Database(sqlx::Error),
    /// It took too long.
    Slow,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Said(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// What queries return: their caller rolls the transaction back.
pub(crate) type Outcome<T> = std::result::Result<T, Failure>;

/// What a database decides about its failures.
pub(crate) trait Judge {
    /// How often a transaction is tried that came to nothing because of others, or because the connection
    /// turned out to be a dead one.
    fn most_attempts(&self) -> u32;
    /// Whether nothing was changed and the same may well succeed at once.
    fn again(&self, failure: &Failure) -> bool;
    /// The failure as an error across stages.
    fn error(&self, failure: Failure) -> Error;
}

/// The attempts at one transaction.
pub(crate) struct Attempts {
    operation: Option<&'static str>,
    began: Instant,
    made: u32,
}

impl Attempts {
    /// At one that changes something.
    pub(crate) fn changing(operation: &'static str) -> Self {
        Self { operation: Some(operation), began: Instant::now(), made: 0 }
    }

    /// At one that only reads.
    pub(crate) fn reading() -> Self {
        Self { operation: None, began: Instant::now(), made: 0 }
    }

    /// What the last attempt comes to; `None` where it is to be made again.
    pub(crate) async fn judge<T>(&mut self, done: Outcome<T>, judge: &impl Judge) -> Option<Result<T>> {
        self.made += 1;
        match done {
            Ok(value) => {
                if let Some(operation) = self.operation {
                    let took = self.began.elapsed().as_secs_f64();
                    metrics::histogram!("crest_store_commit_seconds", "operation" => operation).record(took);
                }
                Some(Ok(value))
            }
            Err(failure) if self.made < judge.most_attempts() && judge.again(&failure) => {
                metrics::counter!("crest_store_repeats_total").increment(1);
                tracing::debug!(?failure, operation = self.operation, made = self.made, "a transaction is made again");
                // Those who were in each other's way should not meet again at once.
                let apart = self.began.elapsed().subsec_nanos() % 4_000_000;
                tokio::time::sleep(Duration::from_nanos(u64::from(apart) * u64::from(self.made))).await;
                None
            }
            Err(failure) => Some(Err(judge.error(failure))),
        }
    }
}

/// Runs the block in a transaction that may change something, and commits what it leaves: `tx` is its
/// name in there. What it returns early is committed too; an error takes everything back.
///
/// The block is run again where it came to nothing because of other transactions, so it must not change
/// what lies outside.
macro_rules! change {
    ($store:expr, $operation:literal, $whose:expr, |$tx:ident| $body:block) => {{
        let mut attempts = $crate::transaction::Attempts::changing($operation);
        loop {
            let attempt = async {
                let mut transaction = $store.begin_change($whose).await?;
                let $tx = &mut transaction;
                let outcome: $crate::transaction::Outcome<_> = async { $body }.await;
                match outcome {
                    Ok(value) => {
                        transaction.commit().await?;
                        Ok(value)
                    }
                    Err(failure) => {
                        $store.take_back(transaction, &failure).await;
                        Err(failure)
                    }
                }
            };
            let done = $store.within(attempt).await;
            if let Some(result) = attempts.judge(done, $store).await {
                break result;
            }
        }
    }};
}

/// Runs the block in a transaction that only reads and sees one state of everything.
macro_rules! look {
    ($store:expr, $whose:expr, |$tx:ident| $body:block) => {{
        let mut attempts = $crate::transaction::Attempts::reading();
        loop {
            let attempt = async {
                let mut transaction = $store.begin_look($whose).await?;
                let $tx = &mut transaction;
                let outcome: $crate::transaction::Outcome<_> = async { $body }.await;
                match outcome {
                    Ok(value) => {
                        $store.end_look(transaction);
                        Ok(value)
                    }
                    Err(failure) => {
                        $store.take_back(transaction, &failure).await;
                        Err(failure)
                    }
                }
            };
            let done = $store.within(attempt).await;
            if let Some(result) = attempts.judge(done, $store).await {
                break result;
            }
        }
    }};
}
