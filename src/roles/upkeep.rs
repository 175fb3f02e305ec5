//! Upkeep: what the database need not remember any longer goes, a little at a time.

use crest_core::WallTime;
use crest_core::store::{Pruned, SharedStore};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::config::StoreConfig;

/// Between two batches: others write meanwhile.
const BREATH: Duration = Duration::from_millis(100);

/// Prunes now and then, until shutdown. What fails is tried again the next time: nothing waits for it.
pub async fn run(store: SharedStore, config: StoreConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let pruned = prune(&store, &config, &shutdown).await;
        if pruned != Pruned::default() {
            let Pruned { events, deliveries, jobs, steps, .. } = pruned;
            tracing::info!(events, deliveries, jobs, steps, "removed what is older than store.keep_events");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(config.prune_interval.0) => {}
        }
    }
}

/// Batch after batch until nothing old is left; how much went in all.
async fn prune(store: &SharedStore, config: &StoreConfig, shutdown: &CancellationToken) -> Pruned {
    let age = i64::try_from(config.keep_events.0.as_millis()).unwrap_or(i64::MAX);
    let before = WallTime(jiff::Timestamp::now().as_millisecond().saturating_sub(age));
    let mut all = Pruned::default();
    while !shutdown.is_cancelled() {
        let batch = match store.prune(before, config.prune_batch).await {
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
