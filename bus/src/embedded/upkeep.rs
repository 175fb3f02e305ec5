//! What happens in the background: records are brought to the disk and old ones removed.

use fjall::PersistMode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use crest_core::Result;

use super::{EmbeddedBus, blocking};

/// Records of one topic that are removed at a time: short enough to hold up no append.
const TRIM_AT_ONCE: u64 = 4096;

/// Pause after the files were opened again, whether that went well or not.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the upkeep, which ends with the bus.
pub(crate) fn start(runtime: &Handle, bus: &Arc<EmbeddedBus>) {
    let every = bus.config.sync.0;
    let weak: Weak<EmbeddedBus> = Arc::downgrade(bus);
    runtime.spawn(async move {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trouble = None;
        // Since when there was nothing new; `None` once that is written out.
        let mut quiet = Some(Instant::now());
        loop {
            ticks.tick().await;
            let Some(bus) = weak.upgrade() else { return };
            if bus.files.broken() {
                trouble = again(bus, trouble).await;
                continue;
            }
            // Held there alone, so that whoever drops the bus meanwhile need not wait for this task.
            match blocking("keep the bus up", move || round(&bus, quiet)).await {
                Ok(since) => quiet = since,
                Err(e) => error!(error = %e, "upkeep of the bus failed"),
            }
        }
    });
}

/// Opens the files again, and pauses. Returns why that did not go well; the same reason, `before`, is
/// not said again.
async fn again(bus: Arc<EmbeddedBus>, before: Option<String>) -> Option<String> {
    let trouble = match blocking("open the files of the bus again", move || bus.reopen()).await {
        Ok(()) => {
            metrics::counter!("crest_bus_reopened_total").increment(1);
            info!("the files of the bus were opened again after a failed write");
            None
        }
        Err(e) => {
            if before.as_ref() != Some(&e.message) {
                error!(error = %e, "trying again every second");
            }
            Some(e.message)
        }
    };
    tokio::time::sleep(AGAIN).await;
    trouble
}

/// `quiet` is since when there was nothing new and not everything is written out; so is what it returns.
fn round(bus: &EmbeddedBus, quiet: Option<Instant>) -> Result<Option<Instant>> {
    for (topic, log) in &bus.logs {
        // What a group still needs stays, however old; the rest stays up to the bound.
        let bound = log.end().saturating_sub(bus.config.retention_records);
        let needed = bus.groups.lowest(*topic).unwrap_or(bound);
        log.trim(bound.min(needed), TRIM_AT_ONCE)?;
    }
    // Cleared first: what is written meanwhile is for the next round. Without anything new it is still
    // asked, so that background work that failed is noticed.
    let new = bus.dirty.swap(false, Ordering::Relaxed);
    bus.files.persist(if new { PersistMode::SyncData } else { PersistMode::Buffer })?;
    match quiet {
        _ if new => Ok(Some(Instant::now())),
        Some(since) if since.elapsed() >= bus.config.quiet.0 => bus.files.write_out().map(|()| None),
        _ => Ok(quiet),
    }
}
