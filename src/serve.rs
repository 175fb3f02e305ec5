//! `crest serve`: builds the parts, starts the roles, stops them in order.

use anyhow::Context;
use crest_core::WallTime;
use crest_core::bus::SharedBus;
use crest_core::space::Space;
use crest_core::store::SharedStore;
use crest_core::topic::Topic;
use crest_core::view::Links;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data_dir::{self, DataDir};
use crate::stop::StopSignal;
use crate::usage::Usage;
use crate::{descriptors, roles, telemetry};

/// What every role works with.
#[derive(Clone)]
pub struct Parts {
    /// The bus.
    pub bus: SharedBus,
    /// The store.
    pub store: SharedStore,
    /// Builds addresses.
    pub links: Links,
    /// How much room there is on the disk.
    pub space: Space,
    /// The configuration.
    pub config: Arc<Config>,
    /// Stops everything.
    pub shutdown: CancellationToken,
}

/// How long the roles may take to stop. With what follows it stays under the 10 s that are promised.
const ROLES_STOP: Duration = Duration::from_secs(7);
/// How long what was appended may take to reach the disk, and how long the database to close.
const STORED: Duration = Duration::from_secs(1);

/// A crest that has started.
struct Running {
    parts: Parts,
    store: crest_store::SqliteStore,
    ingest: crest_ingest::Ingest,
    roles: JoinSet<anyhow::Result<()>>,
    ready: Arc<AtomicBool>,
    /// Ours for as long as we run; the last thing that is let go.
    _data: DataDir,
}

/// Runs until SIGTERM or SIGINT, or until a role fails. A second signal ends the process at once.
pub async fn run(config: Config, roles: &str) -> anyhow::Result<()> {
    if roles != "all" {
        return Err(Usage("the embedded bus lives in one process: --roles must be 'all'".to_owned()).into());
    }
    let mut stop = StopSignal::listen()?;
    config.bootstrap_key.iter().for_each(|key| telemetry::hide(key));
    telemetry::start_logs(&config.log)?;
    let mut running = tokio::select! {
        biased;
        signal = stop.asked() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
        started = start(config) => started?,
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

/// Builds the parts and starts the roles.
async fn start(config: Config) -> anyhow::Result<Running> {
    let metrics = telemetry::start_metrics()?;
    for key in config.without_effect() {
        tracing::warn!("{key} is set, but this version does not have what it configures; it is ignored");
    }
    descriptors::provide(&config);
    crest_media::log_through_tracing();
    crest_media::init()?;
    // Before anything is created: a port that is taken is the commonest mistake.
    let http = tokio::net::TcpListener::bind(config.http.listen).await.with_context(|| {
        format!("http.listen: cannot listen on {}; stop what does, or set another port", config.http.listen)
    })?;
    let address = http.local_addr()?;
    let data = data_dir::open(&config.data_dir)?;
    // Before the bus and the database, which may need the room that it can make.
    let reserve = crest_ingest::Reserve::open(&config.data_dir, &config.retention)?;
    let bus = crest_bus::open(&config.data_dir.join("bus"), config.bus.embedded.clone())?;
    let store = crest_store::SqliteStore::open(&config.data_dir.join("crest.db")).await?;
    // The database waits for the disk with each commit, the bus does not: after a loss of power it may
    // end before what fusion has committed, and what fusion takes for done must not be given out again.
    if let Some(reached) = store.fusion_reached().await? {
        bus.reserve(Topic::Signals, reached.saturating_add(1))?;
    }
    let shared: SharedStore = Arc::new(store.clone());
    bootstrap(&shared, config.bootstrap_key.as_deref()).await?;
    shared.take_over().await?;

    let links = Links::new(config.http.public_url.clone().unwrap_or_else(|| format!("http://{address}")));
    let shutdown = CancellationToken::new();
    let parts = Parts { bus, store: shared, links, space: reserve.space(), config: Arc::new(config), shutdown };

    // The readers first, the writers last: nothing is produced that nobody reads.
    let mut running = JoinSet::new();
    let ready = Arc::new(AtomicBool::new(false));
    running.spawn(roles::deliver::run(parts.clone()));
    running.spawn(roles::fuse::run(parts.clone()));
    running.spawn(roles::analyze::run(parts.clone()));
    let ingest = roles::ingest::start(&parts, reserve).await?;
    println!("rtmp listening on rtmp://{}/{}", ingest.rtmp_address(), crest_ingest::rtmp::APPLICATION);
    let keep = parts.config.metrics.keep_streams.0;
    running.spawn(metrics.clone().keep_up(parts.store.clone(), keep, parts.shutdown.clone()));
    running.spawn(crate::allocator::keep_small(parts.shutdown.clone()));
    let upkeep = parts.config.store.clone();
    running.spawn(roles::upkeep::run(parts.store.clone(), upkeep, parts.shutdown.clone()));
    running.spawn(roles::api::run(parts.clone(), http, ingest.control(), metrics, ready.clone()));
    println!("http listening on http://{address}");
    std::io::stdout().flush()?;
    ready.store(true, Ordering::Release);
    tracing::info!(%address, data_dir = %parts.config.data_dir.display(), "crest is ready");
    Ok(Running { parts, store, ingest, roles: running, ready, _data: data })
}

impl Running {
    /// Stops the roles, brings to the disk what they appended and closes the database; each for so long
    /// and no longer. What does not make it is taken up at the next start.
    async fn stop(mut self) {
        self.ready.store(false, Ordering::Release);
        self.parts.shutdown.cancel();
        let stopped = async {
            self.ingest.finished().await;
            while let Some(ended) = self.roles.join_next().await {
                report(ended);
            }
        };
        if timeout(ROLES_STOP, stopped).await.is_err() {
            tracing::warn!(
                "some roles did not stop in time; what they had not committed is taken up at the next start"
            );
        }
        match timeout(STORED, self.parts.bus.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what was appended last may not be on the disk yet"),
            Err(_) => tracing::warn!("the disk is slow: what was appended last may not be on it yet"),
        }
        if timeout(STORED, self.store.close()).await.is_err() {
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

/// Makes the operator's organization exist. Without a key, one is made and printed, once.
async fn bootstrap(store: &SharedStore, key: Option<&str>) -> anyhow::Result<()> {
    let now = WallTime(jiff::Timestamp::now().as_millisecond());
    if store.bootstrap(key, now).await?.is_some() {
        return Ok(());
    }
    let key = crest_control_api::api_key()?;
    store.bootstrap(Some(&key), now).await?;
    println!("your API key, shown this once: {key}");
    Ok(())
}
