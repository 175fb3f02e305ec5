//! The delivering role over a store in memory: real HTTP to receivers on loopback, real files.
#![allow(clippy::unwrap_used, missing_docs)]

mod bucket;
mod clips;
mod receiver;
mod store;
mod webhooks;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crest_core::objects::SharedObjects;
use crest_core::space::Space;
use crest_core::units::Span;
use crest_core::view::Links;
use crest_sinks::{ClipsConfig, SinkParts, Sinks, WebhooksConfig};
use crest_store::objects::{StorageConfig, open};
use tokio_util::sync::CancellationToken;

/// A running role; dropping it stops it.
pub struct Running {
    pub shutdown: CancellationToken,
    pub sinks: Option<Sinks>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub fn links() -> Links {
    Links::new("https://crest.example")
}

pub fn millis(millis: u64) -> Span {
    Span(Duration::from_millis(millis))
}

/// Loopback is permitted, retries come at once, and nothing times out by itself.
pub fn webhooks() -> WebhooksConfig {
    WebhooksConfig {
        allow_private: true,
        retry: vec![millis(20); 5],
        timeout: Span::secs(60),
        concurrency: 8,
        poll: millis(10),
        ..WebhooksConfig::default()
    }
}

pub fn clips() -> ClipsConfig {
    ClipsConfig { poll: millis(10), max_wait: Span::secs(600), ..ClipsConfig::default() }
}

pub fn start(store: &Arc<store::Memory>, root: &Path, webhooks: WebhooksConfig, clips: ClipsConfig) -> Running {
    start_in(Space::default(), store, root, webhooks, clips)
}

/// With so much room.
pub fn start_in(
    space: Space,
    store: &Arc<store::Memory>,
    root: &Path,
    webhooks: WebhooksConfig,
    clips: ClipsConfig,
) -> Running {
    let objects = open(&StorageConfig::default(), root).unwrap();
    start_with(objects, space, store, root, webhooks, clips)
}

/// With another home of finished files than the data directory.
pub fn start_with(
    objects: SharedObjects,
    space: Space,
    store: &Arc<store::Memory>,
    root: &Path,
    webhooks: WebhooksConfig,
    clips: ClipsConfig,
) -> Running {
    let shutdown = CancellationToken::new();
    let (store, root) = (store.clone(), root.to_owned());
    let parts = SinkParts { store, objects, root, links: links(), space, webhooks, clips };
    let sinks = Sinks::start(parts, shutdown.clone()).unwrap();
    Running { shutdown, sinks: Some(sinks) }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let store = Arc::new(store::Memory::default());
    let none = ClipsConfig { workers: 0, ..clips() };
    let parts = SinkParts {
        store,
        objects: open(&StorageConfig::default(), Path::new("/nowhere")).unwrap(),
        root: "/nowhere".into(),
        links: links(),
        space: Space::default(),
        webhooks: webhooks(),
        clips: none,
    };
    let error = Sinks::start(parts, CancellationToken::new()).unwrap_err();
    assert!(error.message.contains("clips.workers"), "{error}");

    let unknown: Result<WebhooksConfig, _> = serde_json::from_str(r#"{"retries": ["5s"]}"#);
    assert!(unknown.is_err());
    let known: WebhooksConfig = serde_json::from_str(r#"{"retry": ["1s", "2m"], "allow_private": true}"#).unwrap();
    assert_eq!(known.retry, [Span::secs(1), Span::secs(120)]);
    assert_eq!(known.timeout, Span::secs(15));
}
