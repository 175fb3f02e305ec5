//! Upkeep: what the database and the bus need not remember any longer goes, a little at a time. Each process
//! does so where several share them: what one has removed, the others do not find.

use crest_core::WallTime;
use crest_core::store::Pruned;
use std::time::Duration;

use super::now;
use crate::serve::Parts;

/// Between two batches: others write meanwhile.
const BREATH: Duration = Duration::from_millis(100);
/// A process that was not heard of for so long is forgotten.
const KEEP_INSTANCES: Duration = Duration::from_secs(24 * 3600);

/// Prunes now and then, until shutdown. What fails is tried again the next time: nothing waits for it.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let config = &parts.config.store;
    loop {
        let pruned = prune(&parts).await;
        if pruned != Pruned::default() {
            let Pruned { events, deliveries, jobs, steps, .. } = pruned;
            tracing::info!(events, deliveries, jobs, steps, "removed what is older than store.keep_events");
        }
        if parts.config.database.url.is_some()
            && let Err(error) = parts.store.forget_instances(ago(KEEP_INSTANCES)).await
        {
            tracing::warn!(%error, "processes that are gone for good are still remembered; the next round tries again");
        }
        if let Some(kafka) = &parts.kafka {
            match kafka.remove_old_claims().await {
                Ok(0) => {}
                Ok(payloads) => {
                    tracing::info!(payloads, "removed large records that are older than bus.kafka.retention")
                }
                Err(error) => tracing::warn!(%error, "the next round tries again"),
            }
        }
        tokio::select! {
            () = parts.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(config.prune_interval.0) => {}
        }
    }
}

/// Batch after batch until nothing old is left; how much went in all.
async fn prune(parts: &Parts) -> Pruned {
    let config = &parts.config.store;
    let before = ago(config.keep_events.0);
    let mut all = Pruned::default();
    while !parts.shutdown.is_cancelled() {
        let batch = match parts.store.prune(before, config.prune_batch).await {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(%error, "the next round tries again");
                break;
            }
        };
        all.events += batch.events;
        all.deliveries += batch.deliveries;
        all.jobs += batch.jobs;
        all.steps += batch.steps;
        if !batch.more {
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    all
}

fn ago(age: Duration) -> WallTime {
    let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    WallTime(now().0.saturating_sub(millis))
}
