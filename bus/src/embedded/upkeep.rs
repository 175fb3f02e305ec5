//! What happens in the background: records are brought to the disk and old ones removed.

use fjall::PersistMode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use crest_core::Result;

use super::{EmbeddedBus, blocking, groups};

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
        let mut quiet = Quiet { appended: 0, since: None };
        loop {
            ticks.tick().await;
            let Some(bus) = weak.upgrade() else { return };
            if bus.files.broken() {
                trouble = again(bus, trouble).await;
                continue;
            }
            // Held there alone, so that whoever drops the bus meanwhile need not wait for this task.
            match blocking("keep the bus up", move || round(&bus, quiet)).await {
                Ok(next) => quiet = next,
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

/// Whether anything is appended.
#[derive(Clone, Copy)]
struct Quiet {
    /// Records of all topics so far.
    appended: u64,
    /// Since when there were no more; `None` once they are written out, or that was tried: where it failed, it would
    /// fail again.
    since: Option<Instant>,
}

fn round(bus: &EmbeddedBus, quiet: Quiet) -> Result<Quiet> {
    for (topic, log) in &bus.logs {
        // What a group still needs stays, however old; the rest stays up to the bound.
        let bound = log.end().saturating_sub(bus.config.retention_records);
        let needed = bus.groups.lowest(*topic).unwrap_or(bound);
        log.trim(bound.min(needed), TRIM_AT_ONCE)?;
    }
    // Cleared first: what is written meanwhile is for the next round. Without anything new it is still
    // asked, so that background work that failed is noticed.
    let mode = if bus.dirty.swap(false, Ordering::Relaxed) { PersistMode::SyncData } else { PersistMode::Buffer };
    bus.files.persist(mode)?;
    let appended = bus.logs.values().map(|log| log.end()).fold(0, u64::wrapping_add);
    if appended != quiet.appended {
        return Ok(Quiet { appended, since: Some(Instant::now()) });
    }
    if quiet.since.is_some_and(|since| since.elapsed() >= bus.config.quiet.0) {
        if let Err(e) = write_out(bus) {
            error!(error = %e, "what the bus holds in memory cannot be written out");
        }
        return Ok(Quiet { since: None, ..quiet });
    }
    Ok(quiet)
}

fn write_out(bus: &EmbeddedBus) -> Result<()> {
    let mut some = false;
    for log in bus.logs.values() {
        some |= log.write_out()?;
    }
    // Who reads acknowledges, each time anew.
    if some { bus.files.write_out(groups::KEYSPACE) } else { Ok(()) }
}
