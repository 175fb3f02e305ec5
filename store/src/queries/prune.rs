//! Rows about what is long over, which would otherwise grow for ever.
//!
//! That an event is told once rests on rows that stay: an event is committed again only if what it
//! tells happens again. A decision that is derived again from the log meets its highlight, which is
//! never pruned and already has that revision; a clip's end needs its job to be running, and jobs that
//! are not over stay; a stream's step is taken from a state that it has left. So nothing looks for the
//! id of an event as old as these, and forgetting it makes nothing be told twice. What does look back
//! is the outbox, when a highlight's later events follow its detection: events of highlights that are
//! not through stay, however old.

use async_trait::async_trait;

use crest_core::store::{Pruned, Upkeep};
use crest_core::{Error, Result, WallTime};

use super::{DbStore, Tx};
use crate::transaction::{Outcome, Whose};

/// What is pruned, in an order in which nothing refers to what has gone before it. Each takes an
/// instant and a limit; what somebody is changing is left for the next round.
const DELIVERIES: &str = concat!(
    "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries \
     WHERE state IN ('delivered', 'failed') AND created_at < $1 ORDER BY created_at LIMIT $2",
    skip_locked!(),
    ")"
);
const EVENTS: &str = concat!(
    "DELETE FROM events WHERE id IN (SELECT e.id FROM events e WHERE e.happened_at < $1 \
     AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id) \
     AND NOT EXISTS (SELECT 1 FROM highlights h WHERE h.id = e.subject AND h.state IN ('provisional', 'final')) \
     ORDER BY e.happened_at LIMIT $2",
    skip_locked!(),
    ")"
);
const JOBS: &str = concat!(
    "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs \
     WHERE state IN ('done', 'failed', 'cancelled') AND created_at < $1 ORDER BY created_at LIMIT $2",
    skip_locked!(),
    ")"
);
/// A stream's last step stays: the next one counts on from it.
const HISTORY: &str = concat!(
    "DELETE FROM stream_history WHERE (stream_id, step) IN (SELECT s.stream_id, s.step FROM stream_history s \
     WHERE s.at < $1 AND EXISTS (SELECT 1 FROM stream_history later \
     WHERE later.stream_id = s.stream_id AND later.step > s.step) ORDER BY s.at LIMIT $2",
    skip_locked!(),
    ")"
);

#[async_trait]
impl Upkeep for DbStore {
    async fn prune(&self, before: WallTime, limit: u32) -> Result<Pruned> {
        // One transaction each: writers that wait get their turn in between.
        let mut gone = [0; 4];
        for (rows, statement) in gone.iter_mut().zip([DELIVERIES, EVENTS, JOBS, HISTORY]) {
            let done = change!(self, "prune", Whose::All, |tx| { delete(tx, statement, before, limit).await });
            *rows = done.map_err(|error: Error| error.context("old rows cannot be removed"))?;
        }
        let [deliveries, events, jobs, steps] = gone;
        let more = gone.iter().any(|rows| *rows >= u64::from(limit));
        Ok(Pruned { events, deliveries, jobs, steps, more })
    }
}

async fn delete(tx: &mut Tx, statement: &'static str, before: WallTime, limit: u32) -> Outcome<u64> {
    let done = sqlx::query(statement).bind(before.0).bind(i64::from(limit)).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}
