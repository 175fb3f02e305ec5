//! Ingest: publishers and their feeds.

use crest_ingest::{Ingest, IngestParts, Reserve};
use crest_media::KeyframePool;

use crate::serve::Parts;

/// Binds the listeners and takes feeds from now on.
pub async fn start(parts: &Parts, reserve: Reserve) -> anyhow::Result<Ingest> {
    let config = &parts.config;
    let ingest_parts = IngestParts {
        store: parts.store.clone(),
        bus: parts.bus.clone(),
        root: config.data_dir.clone(),
        links: parts.links.clone(),
        pool: KeyframePool::new(&config.decoder)?,
        segmenter: config.segments.clone(),
        ingest: config.ingest.clone(),
        rtmp: config.rtmp.clone(),
        retention: config.retention.clone(),
        clip_margin: config.clips.before.max(config.clips.after),
        reserve,
    };
    Ok(Ingest::start(ingest_parts, parts.shutdown.clone()).await?)
}
