//! The start: what can go wrong on this machine first, then what other machines have, then the roles.

use anyhow::Context;
use crest_core::feeds::FeedControl;
use crest_core::instance::Heard;
use crest_core::store::SharedStore;
use crest_core::view::Links;
use crest_ingest::Reserve;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::front::Front;
use super::parts::{self, Buses};
use super::wait::{Waiting, now};
use super::{Parts, Running};
use crate::config::{BusKind, Config, Role, Roles};
use crate::roles::control::Remote;
use crate::roles::presence::Presence;
use crate::telemetry::{self, Metrics};
use crate::{data_dir, descriptors, roles};

/// Builds the parts and starts the roles.
pub(super) async fn start(config: Config, roles: Roles) -> anyhow::Result<Running> {
    let metrics = telemetry::start_metrics()?;
    for key in config.without_effect() {
        tracing::warn!(
            "{key} is set and ignored: this version does not have what it configures, or the other settings do not \
             make use of it"
        );
    }
    descriptors::provide(&config);
    let media = roles.has_any(&[Role::Ingest, Role::Deliver]);
    if media {
        crest_media::log_through_tracing();
        crest_media::init()?;
    }
    // Before anything is created: a port that is taken is the commonest mistake.
    let http = TcpListener::bind(config.http.listen).await.with_context(|| {
        format!("http.listen: cannot listen on {}; stop what does, or set another port", config.http.listen)
    })?;
    let address = http.local_addr()?;
    let data = data_dir::open(&config.data_dir)?;
    // Before the bus and the database, which may need the room that it can make.
    let reserve = if media { Some(Reserve::open(&config.data_dir, &config.retention)?) } else { None };

    let (shutdown, mut running) = (CancellationToken::new(), JoinSet::new());
    let waiting = Waiting::default();
    let front = Front::starting(waiting.clone(), metrics.clone());
    running.spawn(front.clone().serve(http, config.http.clone(), shutdown.clone()));
    println!("http listening on http://{address}");
    std::io::stdout().flush()?;

    let database = parts::database(&config, &waiting).await?;
    let objects = parts::objects(&config, &waiting).await?;
    let Buses { bus, entry, kafka } =
        parts::buses(&config, &roles, &data.instance, &database, &objects, &waiting).await?;
    let links = Links::new(config.http.public_url.clone().unwrap_or_else(|| format!("http://{address}")));
    let http_url = own_url(&config, &roles, address);
    let space = reserve.as_ref().map(Reserve::space).unwrap_or_default();
    let several = config.bus.kind == BusKind::Kafka && config.database.url.is_some();
    let parts = Parts {
        bus,
        entry,
        kafka,
        store: database.shared(),
        objects,
        instance: data.instance.clone(),
        others: several.then(Heard::default),
        links,
        http_url,
        space,
        roles,
        config: Arc::new(config),
        shutdown,
    };
    if parts.roles.has(Role::Api) {
        bootstrap(&parts.store, parts.config.bootstrap_key.as_deref()).await?;
    }
    parts.store.take_over().await?;
    let ready = Arc::new(AtomicBool::new(false));
    let (ingest, router) = start_roles(&parts, reserve, &mut running, metrics, &ready).await?;
    front.started(router);
    ready.store(true, Ordering::Release);
    tracing::info!(%address, roles = %parts.roles, data_dir = %parts.config.data_dir.display(), "crest is ready");
    Ok(Running { parts, ingest, roles: running, ready, _data: data })
}

/// The readers first, the writers last: nothing is produced that nobody reads. Returns what HTTP answers
/// from now on.
async fn start_roles(
    parts: &Parts,
    reserve: Option<Reserve>,
    running: &mut JoinSet<anyhow::Result<()>>,
    metrics: Metrics,
    ready: &Arc<AtomicBool>,
) -> anyhow::Result<(Option<crest_ingest::Ingest>, axum::Router)> {
    let mut presence = Presence::new(parts);
    presence.begin().await?;
    let has = |role| parts.roles.has(role);
    if has(Role::Deliver) {
        running.spawn(roles::deliver::run(parts.clone()));
    }
    if has(Role::Fuse) {
        running.spawn(roles::fuse::run(parts.clone()));
    }
    if has(Role::Analyze) {
        running.spawn(roles::analyze::run(parts.clone()));
    }
    let mut ingest = None;
    match reserve {
        Some(reserve) if has(Role::Ingest) => {
            let started = roles::ingest::start(parts, reserve).await?;
            println!("rtmp listening on rtmp://{}/{}", started.rtmp_address(), crest_ingest::rtmp::APPLICATION);
            println!("srt listening on srt://{}", started.srt_address());
            if let Some(address) = started.rtmps_address() {
                println!("rtmps listening on rtmps://{address}/{}", crest_ingest::rtmp::APPLICATION);
            }
            std::io::stdout().flush()?;
            if parts.others.is_some() {
                running.spawn(roles::control::follow(parts.clone(), started.ears()));
            }
            presence.takes_feeds_at(started.addresses()).await;
            ingest = Some(started);
        }
        Some(reserve) => {
            let shutdown = parts.shutdown.clone();
            running.spawn(async move {
                reserve.run(shutdown).await;
                Ok(())
            });
        }
        None => {}
    }
    running.spawn(presence.run());
    let keep = parts.config.metrics.keep_streams.0;
    running.spawn(metrics.clone().keep_up(parts.store.clone(), keep, parts.shutdown.clone()));
    running.spawn(crate::allocator::keep_small(parts.shutdown.clone()));
    running.spawn(roles::upkeep::run(parts.clone()));
    let router = match has(Role::Api) {
        true => roles::api::router(parts, feeds(parts, ingest.as_ref()), metrics, Arc::clone(ready)),
        false => roles::api::bare(parts, metrics, Arc::clone(ready)),
    };
    let router = match &ingest {
        Some(ingest) => router.merge(ingest.routes()),
        None => router,
    };
    Ok((ingest, router))
}

/// Where this process's own HTTP port is reached: `http.public_url` is that of the process that serves the API.
fn own_url(config: &Config, roles: &Roles, mut address: SocketAddr) -> String {
    if let (Some(url), true) = (&config.http.public_url, roles.has(Role::Api)) {
        return url.clone();
    }
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    format!("http://{address}")
}

/// How the API steers feeds: where there may be other processes, through the bus.
fn feeds(parts: &Parts, ingest: Option<&crest_ingest::Ingest>) -> Arc<dyn FeedControl> {
    match (&parts.others, ingest.map(crest_ingest::Ingest::control)) {
        (None, Some(own)) => own,
        (_, own) => Arc::new(Remote::new(parts.clone(), own)),
    }
}

/// Makes the operator's organization exist. Without a key, one is made and printed, once.
async fn bootstrap(store: &SharedStore, key: Option<&str>) -> anyhow::Result<()> {
    if store.bootstrap(key, now()).await?.is_some() {
        return Ok(());
    }
    let key = crest_control_api::api_key()?;
    store.bootstrap(Some(&key), now()).await?;
    println!("your API key, shown this once: {key}");
    Ok(())
}
