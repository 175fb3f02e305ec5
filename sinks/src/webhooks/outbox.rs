//! Watches how much is still to be sent.

use std::time::Duration;

use crest_core::store::SharedStore;
use tokio_util::sync::CancellationToken;

use crate::now;

const EVERY: Duration = Duration::from_secs(1);

/// Keeps the gauges of the outbox true until `shutdown`.
pub(crate) async fn watch(store: SharedStore, shutdown: CancellationToken) {
    loop {
        // A store that does not answer is reported by the worker, which meets it more often.
        if let Ok((depth, oldest)) = store.outbox_depth().await {
            let age = oldest.map_or(0, |at| now().0.saturating_sub(at.0).max(0));
            metrics::gauge!("crest_outbox_depth").set(depth as f64);
            metrics::gauge!("crest_outbox_age_seconds").set(age as f64 / 1000.0);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
