//! `crest serve`: builds the parts, starts the roles, stops them in order.

use anyhow::Context;
use crest_core::WallTime;
use crest_core::bus::SharedBus;
use crest_core::store::SharedStore;
use crest_core::view::Links;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::usage::Usage;
use crate::{roles, telemetry};

/// What every role works with.
#[derive(Clone)]
pub struct Parts {
    /// The bus.
    pub bus: SharedBus,
    /// The store.
    pub store: SharedStore,
    /// Builds addresses.
    pub links: Links,
    /// The configuration.
    pub config: Arc<Config>,
    /// Stops everything.
    pub shutdown: CancellationToken,
}

/// Runs until SIGTERM or SIGINT, or until a role fails.
pub async fn run(config: Config, roles: &str) -> anyhow::Result<()> {
    if roles != "all" {
        return Err(Usage("the embedded bus lives in one process: --roles must be 'all'".to_owned()).into());
    }
    telemetry::start_logs(&config.log)?;
    let metrics = telemetry::start_metrics()?;
    for key in config.without_effect() {
        tracing::warn!("{key} is set, but this version does not have what it configures; it is ignored");
    }
    crest_media::init()?;
    // Before anything is created: a port that is taken is the commonest mistake.
    let http = tokio::net::TcpListener::bind(config.http.listen).await.with_context(|| {
        format!("http.listen: cannot listen on {}; stop what does, or set another port", config.http.listen)
    })?;
    let address = http.local_addr()?;
    create_data_dir(&config.data_dir)?;
    let bus = crest_bus::open(&config.data_dir.join("bus"), config.bus.embedded.clone())?;
    let store: SharedStore = Arc::new(crest_store::SqliteStore::open(&config.data_dir.join("crest.db")).await?);
    bootstrap(&store, config.bootstrap_key.as_deref()).await?;

    let links = Links::new(config.http.public_url.clone().unwrap_or_else(|| format!("http://{address}")));
    let shutdown = CancellationToken::new();
    let parts = Parts { bus, store, links, config: Arc::new(config), shutdown: shutdown.clone() };

    // The readers first, the writers last: nothing is produced that nobody reads.
    let mut running = tokio::task::JoinSet::new();
    let ready = Arc::new(AtomicBool::new(false));
    running.spawn(roles::deliver::run(parts.clone()));
    running.spawn(roles::fuse::run(parts.clone()));
    running.spawn(roles::analyze::run(parts.clone()));
    let ingest = roles::ingest::start(&parts).await?;
    println!("rtmp listening on rtmp://{}/{}", ingest.rtmp_address(), crest_ingest::rtmp::APPLICATION);
    running.spawn(roles::api::run(parts.clone(), http, ingest.control(), metrics, ready.clone()));
    println!("http listening on http://{address}");
    std::io::stdout().flush()?;
    ready.store(true, Ordering::Release);
    tracing::info!(%address, data_dir = %parts.config.data_dir.display(), "crest is ready");

    let failed = tokio::select! {
        signal = stop_signal() => { tracing::info!(signal = signal?, "stopping"); None }
        ended = running.join_next() => Some(ended),
    };
    ready.store(false, Ordering::Release);
    shutdown.cancel();
    let stop = async {
        ingest.finished().await;
        while let Some(ended) = running.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(std::time::Duration::from_secs(7), stop).await.is_err() {
        tracing::warn!("some roles did not stop in time; what they had not committed is taken up at the next start");
    }
    parts.bus.flush().await?;
    match failed {
        Some(Some(Ok(Err(error)))) => Err(error),
        Some(Some(Err(error))) => Err(anyhow::anyhow!("a role stopped: {error}")),
        Some(_) => Err(anyhow::anyhow!("a role stopped by itself")),
        None => Ok(()),
    }
}

fn report(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{error:#}"),
        Err(error) => tracing::error!("a role stopped: {error}"),
    }
}

/// Creates the data directory where it is missing, for its owner alone: it holds keys and media.
fn create_data_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("CREST_DATA_DIR: cannot create the data directory {}", path.display()))
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

async fn stop_signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
