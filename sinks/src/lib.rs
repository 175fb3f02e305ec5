//! Highlights become clips and webhooks: what the delivering role starts.
//!
//! Both halves live off the store alone: they lease work that is due, do it, and commit what became
//! of it. Whatever is killed in between is leased again later and told under the same ids.

mod clips;
mod config;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod webhooks;

use std::path::PathBuf;

use crest_core::objects::SharedObjects;
use crest_core::space::Space;
use crest_core::store::SharedStore;
use crest_core::view::Links;
use crest_core::{Result, WallTime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::{ClipsConfig, WebhooksConfig};

/// What delivering needs.
#[derive(Clone)]
pub struct SinkParts {
    /// Where jobs, deliveries and fragments are kept.
    pub store: SharedStore,
    /// Where media lies and clips go.
    pub objects: SharedObjects,
    /// The data directory, where clips are made.
    pub root: PathBuf,
    /// How events name what they are about.
    pub links: Links,
    /// Whether there is room for clips.
    pub space: Space,
    /// How webhooks are sent.
    pub webhooks: WebhooksConfig,
    /// How clips are cut.
    pub clips: ClipsConfig,
}

/// The running workers.
#[derive(Debug)]
pub struct Sinks {
    tasks: JoinSet<()>,
}

impl Sinks {
    /// Starts the webhook sender and the clip workers on the current tokio runtime; they stop when
    /// `shutdown` is cancelled. Fails on a setting that makes no sense, and where GStreamer or TLS
    /// cannot be set up.
    pub fn start(parts: SinkParts, shutdown: CancellationToken) -> Result<Sinks> {
        let SinkParts { store, objects, root, links, space, webhooks, clips } = parts;
        webhooks.check()?;
        clips.check()?;
        crest_media::init()?;
        match crest_media::remove_unfinished(&root.join("clips")) {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "clips that an earlier process left unfinished were removed"),
            Err(error) => tracing::warn!(%error, "what an earlier process left unfinished could not be removed"),
        }
        if let Err(error) = clips::clear(&root) {
            tracing::warn!(%error, "what an earlier process fetched could not be removed");
        }

        let mut tasks = JoinSet::new();
        tasks.spawn(webhooks::outbox::watch(store.clone(), shutdown.clone()));
        let sender = webhooks::Worker::new(store.clone(), webhooks)?;
        tasks.spawn(sender.run(shutdown.clone()));
        for worker in clips::workers(store, objects, root, links, space, clips) {
            tasks.spawn(worker.run(shutdown.clone()));
        }
        Ok(Sinks { tasks })
    }

    /// Waits until every worker has stopped: at most some seconds after the shutdown.
    pub async fn finished(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a delivering task ended abnormally; please report this");
            }
        }
    }
}

/// The wall clock, for leases, due times and signatures.
fn now() -> WallTime {
    WallTime(jiff::Timestamp::now().as_millisecond())
}

/// A duration as whole milliseconds, for arithmetic on wall-clock time.
fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
