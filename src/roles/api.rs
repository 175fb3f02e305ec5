//! API: what tenants ask and steer.

use crest_control_api::ApiState;
use crest_core::feeds::FeedControl;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::TcpListener;

use crate::http::Bounds;
use crate::serve::Parts;
use crate::telemetry::Metrics;

/// How long requests under way may go on after the shutdown: a long download, a stream of events.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Serves HTTP until shutdown.
pub async fn run(
    parts: Parts,
    listener: TcpListener,
    feeds: Arc<dyn FeedControl>,
    metrics: Metrics,
    ready: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let state = ApiState {
        store: parts.store,
        bus: parts.bus,
        feeds,
        objects_root: parts.config.data_dir.clone(),
        links: parts.links,
        metrics: Arc::new(move || metrics.render()),
        ready,
        shutdown: parts.shutdown.clone(),
        config: parts.config.api.clone(),
    };
    let router = crest_control_api::router(state);
    let shutdown = parts.shutdown;
    let http = &parts.config.http;
    let bounds = Bounds { max_connections: http.max_connections, idle: http.idle, stalled: http.stalled };
    let served = crate::http::serve(listener, router, bounds, shutdown.clone());
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        () = served => Ok(()),
        () = patience => {
            tracing::info!("some HTTP requests were still being answered, and are cut off");
            Ok(())
        }
    }
}
