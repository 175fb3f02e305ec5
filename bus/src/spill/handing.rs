//! Hands over what was kept, in order, when the bus is back.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info};

use crest_core::bus::{Record, SharedBus};
use crest_core::{Error, Result};

use super::{Spilled, size};
use crate::embedded::queue::Waiting;

/// Records that are handed over at a time.
pub(super) const AT_ONCE: usize = 1000;
/// How long the bus may take to answer. It has its own, shorter bound: this is for one that forgets.
const ANSWER: Duration = Duration::from_secs(120);

/// Hands over what waits, now and whenever something does.
pub(super) async fn run(spilled: Arc<Spilled>, inner: SharedBus, retry: Duration) {
    let mut end = spilled.queue.watch();
    let topic = spilled.queue.topic.name();
    loop {
        if done(&spilled) {
            end.mark_unchanged();
            // Looked at again after the mark: a record may have come in between.
            if done(&spilled) && end.changed().await.is_err() {
                return;
            }
            continue;
        }
        let (begun, mut handed) = (Instant::now(), 0);
        while !done(&spilled) {
            match hand_over(&spilled, &inner).await {
                Ok(records) => handed += records,
                Err(why) => {
                    debug!(topic, %why, waiting = spilled.queue.waiting(), "the bus is still away, or the disk full");
                    sleep(retry).await;
                }
            }
            spilled.show();
        }
        let mut told = spilled.told();
        if spilled.queue.waiting() == 0 {
            *told = false;
            info!(topic, records = handed, seconds = begun.elapsed().as_secs(), "the bus has what was kept for it");
        }
    }
}

/// Whether nothing waits, and a later process knows it.
fn done(spilled: &Spilled) -> bool {
    spilled.queue.waiting() == 0 && spilled.queue.settled()
}

/// Hands over the next records. Returns how many; fails where that has to be tried again.
async fn hand_over(spilled: &Spilled, inner: &SharedBus) -> Result<u64> {
    let (waiting, after) = spilled.queue.peek(0, AT_ONCE).await?;
    let records = waiting.iter().map(|w| w.record.clone()).collect();
    match append(inner, spilled, records).await {
        // One of them cannot be taken, whatever the state of the bus: it must not hold up the others.
        Err(error) if !error.retryable => {
            for one in &waiting {
                hand_over_one(spilled, inner, one).await?;
                taken(spilled, one.offset.saturating_add(1), std::slice::from_ref(one)).await?;
            }
            taken(spilled, after, &[]).await?;
        }
        answer => {
            answer?;
            taken(spilled, after, &waiting).await?;
        }
    }
    Ok(waiting.len() as u64)
}

/// Everything before `next` is handed over: these are the last of it.
async fn taken(spilled: &Spilled, next: u64, records: &[Waiting]) -> Result<()> {
    spilled.release(records.iter().map(|w| size(&w.record)).sum());
    spilled.queue.take(next).await
}

/// Hands over a record, or sets it aside where the bus will never take it.
async fn hand_over_one(spilled: &Spilled, inner: &SharedBus, one: &Waiting) -> Result<()> {
    match append(inner, spilled, vec![one.record.clone()]).await {
        Err(refused) if !refused.retryable => {
            error!(topic = spilled.queue.topic.name(), stream = %one.record.key, why = %refused,
                "a record that was kept is refused by the bus, and set aside in the spill log");
            spilled.queue.set_aside(one, &refused.message).await
        }
        answer => answer,
    }
}

async fn append(inner: &SharedBus, spilled: &Spilled, records: Vec<Record>) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let answer = timeout(ANSWER, inner.append(spilled.queue.topic, records)).await;
    answer.unwrap_or_else(|_| Err(Error::outside(format!("no answer within {ANSWER:?}"))))
}
