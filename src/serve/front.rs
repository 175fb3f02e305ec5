//! HTTP from the first moment on: while crest starts, how far it is; then what its roles serve.

use axum::Router;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::wait::Waiting;
use crate::config::HttpConfig;
use crate::http::{self, Bounds};
use crate::telemetry::Metrics;

/// How long requests under way may go on after the shutdown: a long download, a stream of events.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// What is answered now. Cheap to clone; all clones answer the same.
#[derive(Clone)]
pub struct Front {
    starting: Router,
    started: Arc<OnceLock<Router>>,
}

impl Front {
    /// Says that crest is starting, and what for it waits.
    pub fn starting(waiting: Waiting, metrics: Metrics) -> Self {
        let render = Arc::new(move || metrics.render());
        let starting = crest_control_api::starting(move || waiting.told(), render);
        Self { starting, started: Arc::default() }
    }

    /// From now on `router` answers.
    pub fn started(&self, router: Router) {
        // The first one stays: a process starts once.
        let _ = self.started.set(router);
    }

    /// Serves until shutdown.
    pub async fn serve(
        self,
        listener: TcpListener,
        config: HttpConfig,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let bounds = Bounds { max_connections: config.max_connections, idle: config.idle, stalled: config.stalled };
        let routes = Arc::new(move || self.started.get().unwrap_or(&self.starting).clone());
        let served = http::serve(listener, routes, bounds, shutdown.clone());
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
}
