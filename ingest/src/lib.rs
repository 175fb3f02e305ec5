//! Feeds and files become stored segments and samples.

mod admission;
mod ballast;
mod changes;
mod chat;
mod closing;
mod config;
mod counted;
mod dial;
mod eventsub;
mod feed;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod joining;
mod lifecycle;
mod limits;
mod opening;
mod pause;
pub mod publish;
pub mod pull;
mod queue;
mod recent;
mod recovery;
mod registry;
mod retention;
pub mod rtmp;
mod sampler;
mod sampling;
mod space;
pub mod srt;
mod states;
mod steer;
pub mod timeline;
mod upload;
mod watch;
pub mod whip;

pub use chat::{ChatConfig, TwitchConfig, YoutubeConfig};
pub use config::{IngestConfig, Passphrase, RetentionConfig, RtmpConfig, SrtConfig, WebRtcConfig};
pub use eventsub::TwitchApiConfig;
pub use forward::ForwardConfig;
pub use limits::LimitsConfig;
pub use pull::{PullConfig, ResolverConfig};
pub use sampler::Sampler;
pub use space::{Limits, Reserve, Volume};
pub use states::Steps;

use crest_core::bus::SharedBus;
use crest_core::control::Control;
use crest_core::feeds::{Addresses, FeedControl};
use crest_core::instance::{Heard, InstanceId};
use crest_core::objects::SharedObjects;
use crest_core::store::SharedStore;
use crest_core::units::Span;
use crest_core::view::Links;
use crest_core::{Error, Result};
use crest_media::{KeyframePool, SegmenterConfig};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::chat::Chats;
use crate::eventsub::EventSub;
use crate::forward::Forwards;
use crate::lifecycle::{AGAIN, Shared};
use crate::limits::Ledger;
use crate::publish::{PublishServer, Publishers};
use crate::pull::Pulls;
use crate::recent::Recent;
use crate::recovery::Recovery;
use crate::retention::Retention;
use crate::rtmp::RtmpServer;
use crate::srt::SrtServer;
use crate::steer::Steering;
use crate::upload::{Uploads, Way};
use crate::whip::WhipServer;

/// How long a stream that another process took over is not taken back while that one feeds it.
const FOLLOWED: Duration = Duration::from_secs(30);

/// What the ingesting role is built from.
pub struct IngestParts {
    /// The store.
    pub store: SharedStore,
    /// The bus.
    pub bus: SharedBus,
    /// Where finished files go.
    pub objects: SharedObjects,
    /// This process.
    pub instance: InstanceId,
    /// Which other processes that take feeds were heard of; `None` where this is the only process.
    pub others: Option<Heard>,
    /// The data directory; object keys are paths in it.
    pub root: PathBuf,
    /// Addresses that events carry.
    pub links: Links,
    /// The decoders that all feeds share.
    pub pool: KeyframePool,
    /// How segments are cut. Where they do not stay in the data directory, what a file holds can be read when
    /// it is closed: short files then.
    pub segmenter: SegmenterConfig,
    /// How feeds are run.
    pub ingest: IngestConfig,
    /// How chats of platforms are followed.
    pub chat: ChatConfig,
    /// The RTMP listener.
    pub rtmp: RtmpConfig,
    /// How feeds are pulled.
    pub pull: PullConfig,
    /// Twitch's API, which tells when channels go live.
    pub twitch: TwitchApiConfig,
    /// The SRT listener.
    pub srt: SrtConfig,
    /// The WebRTC listener.
    pub webrtc: WebRtcConfig,
    /// Where this process's HTTP port is reached: `http://host:port`.
    pub http_url: String,
    /// What feeds may take.
    pub limits: LimitsConfig,
    /// How feeds are relayed.
    pub forward: ForwardConfig,
    /// How long stored media is kept.
    pub retention: RetentionConfig,
    /// Media kept around a highlight whose clip is not cut yet, beside what retention keeps anyway: the
    /// longest that a clip shows before or after it.
    pub clip_margin: Span,
    /// Watches the volume of `root`.
    pub reserve: Reserve,
}

/// The running role: listeners, feeds, retention.
pub struct Ingest {
    rtmp_address: SocketAddr,
    srt_address: SocketAddr,
    routes: axum::Router,
    rtmps_address: Option<SocketAddr>,
    steering: Arc<Steering>,
    tasks: TaskTracker,
}

impl Ingest {
    /// Binds the listeners, takes over what an earlier process left, and starts. Everything ends in
    /// order when `shutdown` is cancelled. The error names the setting that is wrong.
    pub async fn start(parts: IngestParts, shutdown: CancellationToken) -> Result<Self> {
        let rtmp = RtmpServer::bind(parts.rtmp).await?;
        let encrypted = parts.srt.passphrase.is_some();
        let srt = SrtServer::bind(parts.srt)?;
        let whip = WhipServer::bind(parts.webrtc).await?;
        let tasks = TaskTracker::new();
        let (store, bus) = (Arc::clone(&parts.store), Arc::clone(&parts.bus));
        let chats = Chats::new(store, bus, parts.chat, tasks.clone(), shutdown.clone())?;
        let eventsub = EventSub::new(parts.twitch, tasks.clone(), shutdown.clone())?;
        let way = Way {
            store: Arc::clone(&parts.store),
            bus: Arc::clone(&parts.bus),
            objects: Arc::clone(&parts.objects),
            root: parts.root.clone(),
        };
        let remote = parts.objects.folder().is_none();
        let uploads = remote.then(|| Uploads::new(way, &parts.ingest, tasks.clone(), shutdown.clone()));
        let (store, keep) = (Arc::clone(&parts.store), parts.retention.media);
        let mut recovery = Recovery::look(store, parts.root.clone(), keep, uploads.clone()).await?;
        let patient = parts.others.is_some();
        while let Err(error) = recovery.urgent().await {
            pause(error, patient).await?;
        }
        let scratch = parts.root.join("pull");
        let reserve = parts.reserve;
        let retention = Retention {
            store: Arc::clone(&parts.store),
            objects: parts.objects,
            root: parts.root.clone(),
            config: parts.retention,
            clip_margin: parts.clip_margin,
            space: reserve.space(),
            eyes: reserve.eyes(),
            pressed: reserve.pressed(),
        };
        let shared = Arc::new(Shared {
            store: parts.store,
            bus: parts.bus,
            uploads,
            instance: parts.instance,
            root: parts.root,
            links: parts.links,
            pool: parts.pool,
            segmenter: parts.segmenter,
            ingest: parts.ingest,
            limits: Ledger::new(parts.limits),
            pull_patience: parts.pull.patience.0,
            chats,
            space: reserve.space(),
            alone: parts.others.is_none(),
            followed: Recent::new(FOLLOWED),
            shutdown: shutdown.clone(),
        });
        let (rtmp_address, rtmps_address, srt_address) = (rtmp.address(), rtmp.secure_address(), srt.address());
        let whip_url = whip.url(&parts.http_url);
        let addresses =
            Addresses { rtmp: Some(rtmp.url()), rtmps: rtmp.secure_url(), srt: Some(srt.url()), whip: Some(whip_url) };
        let store = Arc::clone(&shared.store);
        let forwards = Forwards::new(parts.forward, &parts.pull, store, tasks.clone(), shutdown.clone())?;
        let admission = Arc::new(Admission::new(shared, forwards, tasks.clone()));
        while let Err(error) = admission.recover().await {
            pause(error, patient).await?;
        }
        let pulled = Arc::clone(&admission);
        let others = parts.others.clone();
        let pulls = Pulls::new(pulled, parts.pull, eventsub, scratch, others, tasks.clone(), shutdown.clone())?;
        let pulls = Arc::new(pulls);
        while let Err(error) = pulls.recover().await {
            pause(error, patient).await?;
        }
        if let Some(heard) = parts.others {
            tasks.spawn(admission.watch(heard, Arc::clone(&pulls)).run(shutdown.clone()));
        }
        tracing::info!(address = %rtmp_address, "RTMP publishers are accepted");
        tracing::info!(address = %srt_address, encrypted, "SRT publishers are accepted");
        let publishers: Arc<dyn Publishers> = admission.clone();
        let routes = whip.serve(Arc::clone(&publishers), tasks.clone(), shutdown.clone());
        tasks.spawn(Box::new(rtmp).run(Arc::clone(&publishers), shutdown.clone()));
        tasks.spawn(Box::new(srt).run(publishers, shutdown.clone()));
        tasks.spawn(reserve.run(shutdown.clone()));
        tasks.spawn(retention.run(shutdown.clone()));
        tasks.spawn(recovery.run(shutdown));
        let steering = Arc::new(Steering { admission, pulls, addresses });
        Ok(Self { rtmp_address, rtmps_address, srt_address, routes, steering, tasks })
    }

    /// Where RTMP publishers are accepted.
    pub fn rtmp_address(&self) -> SocketAddr {
        self.rtmp_address
    }

    /// Where SRT publishers are accepted.
    pub fn srt_address(&self) -> SocketAddr {
        self.srt_address
    }

    /// What this process has to serve over HTTP for its publishers: the WHIP endpoint.
    pub fn routes(&self) -> axum::Router {
        self.routes.clone()
    }

    /// Where RTMP publishers are accepted over TLS, if they are.
    pub fn rtmps_address(&self) -> Option<SocketAddr> {
        self.rtmps_address
    }

    /// What the API asks of this role.
    pub fn control(&self) -> Arc<dyn FeedControl> {
        self.steering.clone()
    }

    /// What publishers are told to connect to.
    pub fn addresses(&self) -> &Addresses {
        &self.steering.addresses
    }

    /// What other processes ask of this role.
    pub fn ears(&self) -> Ears {
        Ears(self.steering.clone())
    }

    /// Waits until, after the shutdown, all feeds are closed and their sessions marked interrupted.
    pub async fn finished(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Before a start tries again what failed for a passing reason. Where the store is this process's own, a
/// person is needed.
async fn pause(error: Error, patient: bool) -> Result<()> {
    if !patient || !error.retryable {
        return Err(error);
    }
    tracing::warn!(%error, "waiting to take over what an earlier process left");
    tokio::time::sleep(AGAIN).await;
    Ok(())
}

/// Where the records of the topic `control` go.
#[derive(Clone)]
pub struct Ears(Arc<Steering>);

impl Ears {
    /// Does what another process asks for, in the stream's own task.
    pub async fn hear(&self, control: &Control) {
        self.0.hear(control).await;
    }
}
