//! `crest serve`: builds the parts that its roles need, starts the roles, stops them in order.

mod front;
mod parts;
mod start;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{self, Config, Roles};
use crate::data_dir::DataDir;
use crate::stop::StopSignal;
use crate::telemetry;
pub use parts::Parts;

/// How long the roles may take to stop. With what follows it stays under the 10 s that are promised.
const ROLES_STOP: Duration = Duration::from_secs(7);
/// How long what was appended may take to reach the disk, and how long the database to close.
const STORED: Duration = Duration::from_secs(1);

/// A crest that has started.
struct Running {
    parts: Parts,
    ingest: Option<crest_ingest::Ingest>,
    roles: JoinSet<anyhow::Result<()>>,
    ready: Arc<AtomicBool>,
    /// Ours for as long as we run; the last thing that is let go.
    _data: DataDir,
}

/// Runs until SIGTERM or SIGINT, or until a role fails. A second signal ends the process at once.
pub async fn run(config: Config, roles: &str) -> anyhow::Result<()> {
    let roles = Roles::parse(roles)?;
    config::fits(&config, &roles)?;
    let mut stop = StopSignal::listen()?;
    telemetry::start_logs(&config.log)?;
    let mut running = tokio::select! {
        biased;
        signal = stop.asked() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
        started = start::start(config, roles) => started?,
    };
    let failed = tokio::select! {
        signal = stop.asked() => { tracing::info!(signal, "stopping"); None }
        ended = running.roles.join_next() => Some(ended),
    };
    running.stop().await;
    match failed {
        Some(Some(Ok(Err(error)))) => Err(error),
        Some(Some(Err(error))) => Err(anyhow::anyhow!("a role stopped: {error}")),
        Some(_) => Err(anyhow::anyhow!("a role stopped by itself")),
        None => Ok(()),
    }
}

impl Running {
    /// Stops the roles, brings to the disk what they appended and closes the database; each for so long
    /// and no longer. What does not make it is taken up at the next start.
    async fn stop(mut self) {
        self.ready.store(false, Ordering::Release);
        self.parts.shutdown.cancel();
        let stopped = async {
            if let Some(ingest) = self.ingest {
                ingest.finished().await;
            }
            while let Some(ended) = self.roles.join_next().await {
                report(ended);
            }
        };
        if timeout(ROLES_STOP, stopped).await.is_err() {
            tracing::warn!(
                "some roles did not stop in time; what they had not committed is taken up at the next start"
            );
        }
        match timeout(STORED, self.parts.entry.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what was appended last may not be on the disk yet"),
            Err(_) => tracing::warn!("the disk is slow: what was appended last may not be on it yet"),
        }
        if timeout(STORED, self.parts.store.close()).await.is_err() {
            tracing::warn!("the database was still busy; nothing that was committed is lost");
        }
    }
}

fn report(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{error:#}"),
        Err(error) => tracing::error!("a role stopped: {error}"),
    }
}
