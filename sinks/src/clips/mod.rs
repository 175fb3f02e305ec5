//! Final highlights become clips and thumbnails.

mod build;
mod lease;
mod progress;
mod reach;
mod scratch;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use crest_core::objects::SharedObjects;
use crest_core::space::Space;
use crest_core::store::SharedStore;
use crest_core::view::Links;

use crate::config::ClipsConfig;
use progress::Progress;
use reach::Reach;
pub(crate) use scratch::clear;
pub(crate) use worker::Worker;

/// What all workers have in common.
struct Shared {
    store: SharedStore,
    objects: SharedObjects,
    root: PathBuf,
    links: Links,
    space: Space,
    config: ClipsConfig,
    progress: Progress,
    reach: Reach,
}

/// As many workers as are configured.
pub(crate) fn workers(
    store: SharedStore,
    objects: SharedObjects,
    root: PathBuf,
    links: Links,
    space: Space,
    config: ClipsConfig,
) -> Vec<Worker> {
    let count = config.workers;
    let progress = Progress::default();
    let shared = Arc::new(Shared { store, objects, root, links, space, config, progress, reach: Reach::default() });
    (0..count).map(|_| Worker::new(Arc::clone(&shared))).collect()
}
