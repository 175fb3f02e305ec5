//! Clips of media in a bucket of a real S3 server, with nothing of it in the data directory.

#[path = "../../../store/tests/it/objects/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::highlight::HighlightState;
use crest_core::objects::SharedObjects;
use crest_core::segment::Fragment;
use crest_core::space::Space;
use crest_core::units::Span;
use crest_media::SegmenterConfig;
use crest_sinks::ClipsConfig;
use crest_store::objects::{Secret, StorageConfig, open};
use futures::TryStreamExt;
use server::{Proxy, Server, Way, own_url};

use crate::clips::{sound, store};
use crate::store::Memory;
use crate::{Running, clips, millis, start_with, webhooks};

/// Twenty seconds of stored sound, in files of four.
struct Stored {
    direct: SharedObjects,
    /// Through the proxy.
    objects: SharedObjects,
    proxy: Proxy,
    fragments: Vec<Fragment>,
    /// The same files, for comparison.
    folder: tempfile::TempDir,
    /// The data directory.
    root: tempfile::TempDir,
}

async fn stored() -> Stored {
    let server = Server::shared();
    let proxy = Proxy::before(server).await;
    let direct = StorageConfig {
        url: Some(own_url()),
        endpoint: Some(server.endpoint.clone()),
        access_key_id: Some(Secret::new(&server.key)),
        secret_access_key: Some(Secret::new(&server.secret)),
        timeout: Span::secs(2),
        retries: 0,
        ..StorageConfig::default()
    };
    let through = StorageConfig { endpoint: Some(proxy.endpoint.clone()), ..direct.clone() };
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = SegmenterConfig { fragment: Span::secs(2), segment: Span::secs(4), ..SegmenterConfig::default() };
    let fragments = sound(folder.path(), config);
    let direct = open(&direct, root.path()).unwrap();
    for object in fragments.iter().map(|fragment| &fragment.object).collect::<BTreeSet<_>>() {
        direct.put_file(object, &folder.path().join(object)).await.unwrap();
    }
    let objects = open(&through, root.path()).unwrap();
    Stored { direct, objects, proxy, fragments, folder, root }
}

impl Stored {
    fn start(&self, store: &Arc<Memory>, config: ClipsConfig) -> Running {
        start_with(self.objects.clone(), Space::default(), store, self.root.path(), webhooks(), config)
    }

    async fn whole(&self, key: &str) -> Vec<u8> {
        let size = self.direct.size(key).await.unwrap().unwrap();
        let parts: Vec<Bytes> = self.direct.read(key, 0..size).await.unwrap().try_collect().await.unwrap();
        parts.concat()
    }
}

/// How many files there are below a folder.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_clip_is_cut_elsewhere_as_it_would_be_here() {
    let stored = stored().await;
    // What a process that was killed had fetched.
    let left = stored.root.path().join("scratch/clips/7/media/org_a");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("segment"), "media").unwrap();
    let store = store(HighlightState::Final, None);
    store.with(|state| state.fragments.extend(stored.fragments.clone()));
    let _running = stored.start(&store, clips());
    store.until("ready", |state| !state.finished.is_empty()).await;
    let (result, _) = store.with(|state| state.finished[0].clone());
    let key = result.clip.unwrap();
    assert_eq!(key, "clips/org_a/hl_a.mp4");
    let (from, to) = (MediaTime::from_millis(8_000), MediaTime::from_millis(16_000));
    let (folder, here) = (stored.folder.path(), stored.folder.path().join("here.mp4"));
    let overlaps = |fragment: &&Fragment| fragment.end > from && fragment.start < to;
    let fragments: Vec<_> = stored.fragments.iter().filter(overlaps).cloned().collect();
    crest_media::cut(folder, &fragments, from, to, &here).unwrap();
    assert!(stored.whole(&key).await == std::fs::read(here).unwrap(), "another clip");
    assert_eq!(files(stored.root.path()), 0, "something stays here");
}

#[tokio::test]
async fn no_clip_is_given_up_while_the_storage_is_away() {
    let stored = stored().await;
    let store = store(HighlightState::Final, None);
    store.with(|state| state.fragments.extend(stored.fragments.clone()));
    for way in [Way::Says("503 Slow Down", "SlowDown"), Way::Says("403 Forbidden", "InvalidAccessKeyId")] {
        stored.proxy.set(way);
        let config = ClipsConfig { attempts: 1, max_wait: millis(20), ..clips() };
        let running = stored.start(&store, config);
        let before = store.with(|state| state.requeued.len());
        store.until("put back", |state| state.requeued.len() >= before + 2).await;
        assert!(store.with(|state| state.finished.is_empty() && state.failed.is_empty()), "{way:?}");
        drop(running);
    }
    stored.proxy.set(Way::Open);
    let _running = stored.start(&store, ClipsConfig { attempts: 1, ..clips() });
    store.until("ready", |state| !state.finished.is_empty()).await;
    assert_eq!(files(stored.root.path()), 0);
}

#[tokio::test]
async fn media_that_could_not_be_uploaded_meanwhile_is_waited_for() {
    let stored = stored().await;
    // The session is over, and its last media is still on the way.
    let store = store(HighlightState::Final, Some(MediaTime::from_millis(19_000)));
    let (early, late): (Vec<_>, Vec<_>) =
        stored.fragments.clone().into_iter().partition(|fragment| fragment.end < MediaTime::from_millis(13_000));
    store.with(|state| state.fragments.extend(early));
    stored.proxy.set(Way::Says("503 Slow Down", "SlowDown"));
    let _running = stored.start(&store, ClipsConfig { max_wait: millis(50), ..clips() });
    // Far more often than it would be patient, at 10 ms each.
    store.until("patience", |state| state.requeued.len() > 50).await;
    assert!(store.with(|state| state.finished.is_empty() && state.failed.is_empty()));
    store.with(|state| state.fragments.extend(late));
    stored.proxy.set(Way::Open);
    store.until("ready", |state| !state.finished.is_empty()).await;
    let (result, _) = store.with(|state| state.finished[0].clone());
    assert!(result.clip_start + result.clip_duration >= MediaTime::from_millis(16_000), "{result:?}");
}

#[tokio::test]
async fn a_clip_is_made_of_what_is_left_and_of_nothing_it_is_not() {
    for all in [false, true] {
        let stored = stored().await;
        let store = store(HighlightState::Final, None);
        store.with(|state| state.fragments.extend(stored.fragments.clone()));
        let objects: BTreeSet<_> = stored.fragments.iter().map(|fragment| fragment.object.clone()).collect();
        // Without the one from 12 s on, the longest run is before it.
        for object in objects.iter().skip(if all { 0 } else { 3 }) {
            stored.direct.delete(object).await.unwrap();
        }
        let _running = stored.start(&store, ClipsConfig { attempts: 1, ..clips() });
        store.until("over", |state| !state.finished.is_empty() || !state.failed.is_empty()).await;
        assert_eq!(store.with(|state| state.failed.len()), usize::from(all));
        assert_eq!(files(stored.root.path()), 0);
    }
}

#[tokio::test]
async fn a_clip_that_needs_too_much_names_the_setting() {
    let stored = stored().await;
    let store = store(HighlightState::Final, None);
    store.with(|state| state.fragments.extend(stored.fragments.clone()));
    let _running = stored.start(&store, ClipsConfig { scratch: bytesize::ByteSize(100), ..clips() });
    store.until("failed", |state| !state.failed.is_empty()).await;
    let (reason, _) = store.with(|state| state.failed[0].clone());
    assert!(reason.contains("clips.scratch"), "{reason}");
}
