//! Ingest: publishers and their feeds.

use crest_ingest::{Ingest, IngestParts, Reserve};
use crest_media::KeyframePool;

use crate::serve::Parts;

/// Binds the listeners and takes feeds from now on.
pub async fn start(parts: &Parts, reserve: Reserve) -> anyhow::Result<Ingest> {
    let config = &parts.config;
    let mut segmenter = config.segments.clone();
    if parts.objects.folder().is_none() {
        // Nothing of a segment can be read before it is closed and uploaded: clips wait for that.
        segmenter.segment = config.storage.segment;
    }
    let ingest_parts = IngestParts {
        store: parts.store.clone(),
        bus: parts.entry.clone(),
        objects: parts.objects.clone(),
        instance: parts.instance.clone(),
        others: parts.others.clone(),
        root: config.data_dir.clone(),
        links: parts.links.clone(),
        pool: KeyframePool::new(&config.decoder)?,
        segmenter,
        ingest: config.ingest.clone(),
        chat: config.chat.clone(),
        rtmp: config.rtmp.clone(),
        pull: config.pull.clone(),
        twitch: config.twitch.clone(),
        srt: config.srt.clone(),
        webrtc: config.webrtc.clone(),
        http_url: parts.http_url.clone(),
        limits: config.limits.clone(),
        forward: config.forward.clone(),
        retention: config.retention.clone(),
        clip_margin: config.clips.before.max(config.clips.after),
        reserve,
    };
    Ok(Ingest::start(ingest_parts, parts.shutdown.clone()).await?)
}
