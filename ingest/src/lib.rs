//! Feeds and files become stored segments and samples.

mod admission;
mod config;
mod feed;
mod lifecycle;
pub mod publish;
mod queue;
mod registry;
mod retention;
pub mod rtmp;
mod sampler;
mod sampling;
mod states;
pub mod timeline;

pub use config::{IngestConfig, RetentionConfig, RtmpConfig};
pub use sampler::Sampler;

use crest_core::Result;
use crest_core::bus::SharedBus;
use crest_core::feeds::FeedControl;
use crest_core::store::SharedStore;
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
        let retention =
            Retention { store: Arc::clone(&parts.store), root: parts.root.clone(), config: parts.retention };
        let shared = Arc::new(Shared {
            store: parts.store,
            bus: parts.bus,
            root: parts.root,
            links: parts.links,
            pool: parts.pool,
            segmenter: parts.segmenter,
            ingest: parts.ingest,
            shutdown: shutdown.clone(),
        });
        let rtmp_address = rtmp.address();
        let admission = Arc::new(Admission::new(shared, tasks.clone(), rtmp.url()));
        admission.recover().await?;
        tracing::info!(address = %rtmp_address, "RTMP publishers are accepted");
        let publishers: Arc<dyn Publishers> = admission.clone();
        tasks.spawn(Box::new(rtmp).run(publishers, shutdown.clone()));
        tasks.spawn(retention.run(shutdown));
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
