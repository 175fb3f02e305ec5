//! What happens in the background: records are brought to the disk and old ones removed.

use fjall::PersistMode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tracing::error;

use crest_core::Result;

use crate::{EmbeddedBus, blocking, storage};

/// Records of one topic that are removed at a time: short enough to hold up no append.
const TRIM_AT_ONCE: u64 = 4096;

/// Starts the upkeep, which ends with the bus.
pub(crate) fn start(runtime: &Handle, bus: &Arc<EmbeddedBus>) {
    let every = bus.config.sync.0;
    let bus: Weak<EmbeddedBus> = Arc::downgrade(bus);
    runtime.spawn(async move {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(bus) = bus.upgrade() else { return };
            if let Err(e) = blocking("keep the bus up", move || round(&bus)).await {
                error!(error = %e, "upkeep of the bus failed");
            }
        }
    });
}

fn round(bus: &EmbeddedBus) -> Result<()> {
    for (topic, log) in &bus.logs {
        // What a group still needs stays, however old; the rest stays up to the bound.
        let bound = log.end().saturating_sub(bus.config.retention_records);
        let needed = bus.groups.lowest(*topic).unwrap_or(bound);
        log.trim(bound.min(needed), TRIM_AT_ONCE)?;
    }
    // Cleared first: what is written meanwhile is for the next round.
    if bus.dirty.swap(false, Ordering::Relaxed) {
        bus.db.persist(PersistMode::SyncData).map_err(storage)?;
    }
    Ok(())
}
