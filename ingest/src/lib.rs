//! Feeds and files become stored segments and samples.

mod admission;
mod ballast;
mod config;
mod feed;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod lifecycle;
pub mod publish;
mod queue;
mod recovery;
mod registry;
mod retention;
pub mod rtmp;
mod sampler;
mod sampling;
mod space;
mod states;
pub mod timeline;

pub use config::{IngestConfig, RetentionConfig, RtmpConfig};
pub use sampler::Sampler;
pub use space::{Limits, Reserve, Volume};

use crest_core::Result;
use crest_core::bus::SharedBus;
use crest_core::feeds::FeedControl;
use crest_core::store::SharedStore;
use crest_core::units::Span;
use crest_core::view::Links;
use crest_media::{KeyframePool, SegmenterConfig};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::lifecycle::Shared;
use crate::publish::{PublishServer, Publishers};
use crate::recovery::Recovery;
use crate::retention::Retention;
use crate::rtmp::RtmpServer;

/// What the ingesting role is built from.
pub struct IngestParts {
    /// The store.
    pub store: SharedStore,
    /// The bus.
    pub bus: SharedBus,
    /// The data directory; object keys are paths in it.
    pub root: PathBuf,
    /// Addresses that events carry.
    pub links: Links,
    /// The decoders that all feeds share.
    pub pool: KeyframePool,
    /// How segments are cut.
    pub segmenter: SegmenterConfig,
    /// How feeds are run.
    pub ingest: IngestConfig,
    /// The RTMP listener.
    pub rtmp: RtmpConfig,
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
    admission: Arc<Admission>,
    tasks: TaskTracker,
}

impl Ingest {
    /// Binds the listeners, takes over what an earlier process left, and starts. Everything ends in
    /// order when `shutdown` is cancelled. The error names the setting that is wrong.
    pub async fn start(parts: IngestParts, shutdown: CancellationToken) -> Result<Self> {
        let rtmp = RtmpServer::bind(parts.rtmp).await?;
        let tasks = TaskTracker::new();
        let mut recovery = Recovery::look(Arc::clone(&parts.store), parts.root.clone(), parts.retention.media).await?;
        recovery.urgent().await?;
        let reserve = parts.reserve;
        let retention = Retention {
            store: Arc::clone(&parts.store),
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
            root: parts.root,
            links: parts.links,
            pool: parts.pool,
            segmenter: parts.segmenter,
            ingest: parts.ingest,
            space: reserve.space(),
            shutdown: shutdown.clone(),
        });
        let rtmp_address = rtmp.address();
        let admission = Arc::new(Admission::new(shared, tasks.clone(), rtmp.url()));
        admission.recover().await?;
        tracing::info!(address = %rtmp_address, "RTMP publishers are accepted");
        let publishers: Arc<dyn Publishers> = admission.clone();
        tasks.spawn(Box::new(rtmp).run(publishers, shutdown.clone()));
        tasks.spawn(reserve.run(shutdown.clone()));
        tasks.spawn(retention.run(shutdown.clone()));
        tasks.spawn(recovery.run(shutdown));
        Ok(Self { rtmp_address, admission, tasks })
    }

    /// Where RTMP publishers are accepted.
    pub fn rtmp_address(&self) -> SocketAddr {
        self.rtmp_address
    }

    /// What the API asks of this role.
    pub fn control(&self) -> Arc<dyn FeedControl> {
        self.admission.clone()
    }

    /// Waits until, after the shutdown, all feeds are closed and their sessions marked interrupted.
    pub async fn finished(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
