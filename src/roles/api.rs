//! API: what tenants ask and steer.

use anyhow::Context;
use crest_control_api::ApiState;
use crest_core::feeds::FeedControl;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::net::TcpListener;

use crate::serve::Parts;

/// Serves HTTP until shutdown.
pub async fn run(
    parts: Parts,
    listener: TcpListener,
    feeds: Arc<dyn FeedControl>,
    metrics: PrometheusHandle,
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
        config: parts.config.api.clone(),
    };
    let router = crest_control_api::router(state);
    axum::serve(listener, router)
        .with_graceful_shutdown(parts.shutdown.cancelled_owned())
        .await
        .context("the HTTP server failed")
}
