//! Final highlights become clips and thumbnails.

mod build;
mod progress;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use crest_core::space::Space;
use crest_core::store::SharedStore;
use crest_core::view::Links;

use crate::config::ClipsConfig;
use progress::Progress;
pub(crate) use worker::Worker;

/// What all workers have in common.
struct Shared {
    store: SharedStore,
    root: PathBuf,
    links: Links,
    space: Space,
    config: ClipsConfig,
    progress: Progress,
}

/// As many workers as are configured.
pub(crate) fn workers(
    store: SharedStore,
    root: PathBuf,
    links: Links,
    space: Space,
    config: ClipsConfig,
) -> Vec<Worker> {
    let count = config.workers;
    let progress = Progress::default();
    let shared = Arc::new(Shared { store, root, links, space, config, progress });
    (0..count).map(|_| Worker::new(Arc::clone(&shared))).collect()
}
