//! API: what tenants ask and steer.

use axum::Router;
use crest_control_api::{ApiState, BareState};
use crest_core::feeds::FeedControl;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::Role;
use crate::serve::Parts;
use crate::telemetry::Metrics;

/// The whole API.
pub fn router(parts: &Parts, feeds: Arc<dyn FeedControl>, metrics: Metrics, ready: Arc<AtomicBool>) -> Router {
    crest_control_api::router(ApiState {
        store: parts.store.clone(),
        bus: parts.entry.clone(),
        feeds,
        // Where other processes take feeds, they know whether they have a key.
        youtube: parts.config.chat.youtube.key().is_some() || !parts.roles.has(Role::Ingest),
        objects: parts.objects.clone(),
        link_validity: parts.config.storage.link_validity.0,
        links: parts.links.clone(),
        metrics: Arc::new(move || metrics.render()),
        ready,
        shutdown: parts.shutdown.clone(),
        config: parts.config.api.clone(),
    })
}

/// What a process without this role answers: how it is.
pub fn bare(parts: &Parts, metrics: Metrics, ready: Arc<AtomicBool>) -> Router {
    crest_control_api::bare(BareState {
        store: parts.store.clone(),
        space: parts.space.clone(),
        ready,
        ready_timeout: parts.config.api.ready_timeout,
        metrics: Arc::new(move || metrics.render()),
        roles: parts.roles.to_string(),
    })
}
