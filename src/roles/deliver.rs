//! Deliver: clips and webhooks.

use crest_sinks::{SinkParts, Sinks};

use crate::serve::Parts;

/// Runs until shutdown.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let sink_parts = SinkParts {
        store: parts.store,
        objects: parts.objects,
        root: parts.config.data_dir.clone(),
        links: parts.links,
        space: parts.space,
        webhooks: parts.config.webhooks.clone(),
        clips: parts.config.clips.clone(),
    };
    let sinks = Sinks::start(sink_parts, parts.shutdown.clone())?;
    parts.shutdown.cancelled().await;
    sinks.finished().await;
    Ok(())
}
