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
use crest_core::{Result, WallTime};

use crate::SqliteStore;
use crate::row::db;

/// What is pruned, in an order in which nothing refers to what has gone before it. Each takes an
/// instant and a limit.
const DELIVERIES: &str = "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries \
     WHERE state IN ('delivered', 'failed') AND created_at < ? ORDER BY created_at LIMIT ?)";
const EVENTS: &str = "DELETE FROM events WHERE id IN (SELECT e.id FROM events e WHERE e.happened_at < ? \
     AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id) \
     AND NOT EXISTS (SELECT 1 FROM highlights h WHERE h.id = e.subject AND h.state IN ('provisional', 'final')) \
     ORDER BY e.happened_at LIMIT ?)";
const JOBS: &str = "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs \
     WHERE state IN ('done', 'failed', 'cancelled') AND created_at < ? ORDER BY created_at LIMIT ?)";
/// A stream's last step stays: the next one counts on from it.
const HISTORY: &str = "DELETE FROM stream_history WHERE rowid IN (SELECT s.rowid FROM stream_history s \
     WHERE s.at < ? AND EXISTS (SELECT 1 FROM stream_history later \
     WHERE later.stream_id = s.stream_id AND later.step > s.step) ORDER BY s.at LIMIT ?)";

#[async_trait]
impl Upkeep for SqliteStore {
    async fn prune(&self, before: WallTime, limit: u32) -> Result<Pruned> {
        // One transaction each: writers that wait get their turn in between.
        let deliveries = self.delete(DELIVERIES, before, limit).await?;
        let events = self.delete(EVENTS, before, limit).await?;
        let jobs = self.delete(JOBS, before, limit).await?;
        let steps = self.delete(HISTORY, before, limit).await?;
        let more = [deliveries, events, jobs, steps].iter().any(|rows| *rows >= u64::from(limit));
        Ok(Pruned { events, deliveries, jobs, steps, more })
    }
}

impl SqliteStore {
    async fn delete(&self, statement: &'static str, before: WallTime, limit: u32) -> Result<u64> {
        let done = sqlx::query(statement)
            .bind(before.0)
            .bind(i64::from(limit))
            .execute(&self.writer)
            .await
            .map_err(|e| db(e).context("old rows cannot be removed"))?;
        Ok(done.rows_affected())
    }
}
