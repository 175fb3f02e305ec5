//! The roles: each is a loop between the bus and a stage.

pub mod analyze;
pub mod api;
pub mod control;
pub mod deliver;
pub mod fuse;
pub mod ingest;
pub mod presence;
pub mod upkeep;

use crest_core::bus::{Next, Subscription};
use crest_core::{Result, WallTime};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Records taken from the bus at once.
const BATCH: usize = 256;

/// Wall-clock time, for what is noted; it decides nothing.
fn now() -> WallTime {
    WallTime(jiff::Timestamp::now().as_millisecond())
}

/// What comes next from the bus, or `None` when it is time to stop. A bus that fails is asked again after
/// a second.
async fn next(subscription: &mut Box<dyn Subscription>, shutdown: &CancellationToken) -> Option<Next> {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            received = subscription.next(BATCH) => match received {
                Ok(next) => return Some(next),
                Err(error) => tracing::error!(%error, "cannot read from the bus; trying again in 1 s"),
            },
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Runs `attempt` until it succeeds, waiting a second in between; `None` when it is time to stop. What
/// cannot succeed later, because the attempt itself is wrong, is returned as the error it is.
async fn insist<T, F>(what: &str, shutdown: &CancellationToken, mut attempt: impl FnMut() -> F) -> Result<Option<T>>
where
    F: Future<Output = Result<T>>,
{
    loop {
        match attempt().await {
            Ok(value) => return Ok(Some(value)),
            Err(error) if !error.retryable => return Err(error.context(format!("{what} failed"))),
            Err(error) => tracing::error!(%error, "{what} failed; trying again in 1 s"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
