//! Media that does not stay in the data directory: a real S3 server, which goes away and comes back.

#[path = "../../../store/tests/it/objects/server.rs"]
mod server;

use crate::support::memory::MemoryStore;
use crate::support::{Rig, Settings, created, outcome, publisher};
use bytes::Bytes;
use crest_core::objects::SharedObjects;
use crest_core::segment::Fragment;
use crest_core::signal::SignalEntry;
use crest_core::store::StoredSegment;
use crest_core::units::Span;
use crest_core::{MediaTime, WallTime};
use crest_ingest::IngestConfig;
use crest_store::objects::{Secret, StorageConfig, open};
use futures::StreamExt;
use server::{Proxy, Server, Way, own_url};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const BUSY: Way = Way::Says("503 Slow Down", "SlowDown");

/// Files of one group of pictures, two seconds, in a bucket's folder of its own.
fn settings(server: &Server, endpoint: &str) -> Settings {
    let storage = StorageConfig {
        url: Some(own_url()),
        endpoint: Some(endpoint.to_owned()),
        access_key_id: Some(Secret::new(&server.key)),
        secret_access_key: Some(Secret::new(&server.secret)),
        timeout: Span::secs(2),
        retries: 0,
        ..StorageConfig::default()
    };
    Settings { storage, segment: Span::secs(1), ..Settings::default() }
}

/// The segment files in the data directory, in order.
fn here(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("media")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Every fragment can be read from its object, the objects hold nothing else, and what was told is what
/// is indexed, in order and without a gap.
async fn all_is_stored(objects: &SharedObjects, fragments: &[Fragment], told: &[Fragment]) {
    assert_eq!(told, fragments);
    let mut by_object: Vec<(String, u64)> = Vec::new();
    for fragment in fragments {
        let end = fragment.offset + fragment.bytes;
        match by_object.last_mut().filter(|(object, _)| *object == fragment.object) {
            Some((_, bytes)) => *bytes = end,
            None => by_object.push((fragment.object.clone(), end)),
        }
    }
    let stored: BTreeSet<_> = objects.list("media").await.unwrap().map(|object| object.unwrap()).collect().await;
    assert_eq!(stored, by_object.iter().cloned().collect());
    let names: Vec<_> = by_object.iter().map(|(object, _)| object.clone()).collect();
    assert!(names.is_sorted(), "in the order in which they were closed: {names:?}");
    // Sound and picture need not end at the same time.
    let gap = |pair: &[Fragment]| pair[1].start > pair[0].end + MediaTime::from_millis(50);
    assert!(!fragments.windows(2).any(gap), "{fragments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_goes_to_the_bucket_and_leaves_nothing_here() {
    let server = Server::shared();
    let rig = Rig::start(settings(server, &server.endpoint), vec![created("str_a")]).await;
    let feed = tokio::spawn(outcome(publisher(&rig.url("key-of-str_a"), 7, &[])));
    // Whatever is indexed can be read at once.
    let mut checked = 0;
    while checked < 3 {
        for fragment in rig.store.all_fragments().into_iter().skip(checked) {
            let size = rig.objects.size(&fragment.object).await.unwrap();
            assert!(size.is_some_and(|size| size >= fragment.offset + fragment.bytes), "{fragment:?}");
            checked += 1;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (content, said) = feed.await.unwrap();
    assert!(content, "{said}");
    rig.until_event("stream.interrupted", 1).await;
    let fragments = rig.store.all_fragments();
    assert_eq!(fragments.len(), 4, "the end of a feed waits for its last segment");
    assert!(fragments[3].end >= MediaTime::from_millis(6800), "{fragments:?}");
    all_is_stored(&rig.objects, &fragments, &rig.bus.fragments()).await;
    assert_eq!(here(rig.root.path()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_storage_is_away_segments_wait_here_and_arrive_in_order() {
    let server = Server::shared();
    let proxy = Proxy::before(server).await;
    // Two files are remembered, the others found again on the disk.
    let ingest = IngestConfig { upload_queue: 2, ..IngestConfig::default() };
    let settings = Settings { ingest, ..settings(server, &proxy.endpoint) };
    let rig = Rig::start(settings, vec![created("str_a"), created("str_b")]).await;
    let feeds = ["a", "b"].map(|name| publisher(&rig.url(&format!("key-of-str_{name}")), 14, &[]));
    rig.until("uploads", |rig| rig.store.all_fragments().len() >= 2).await;
    proxy.set(BUSY);
    let before = rig.store.all_fragments().len();
    rig.until("files that wait", |rig| here(rig.root.path()).len() >= 6).await;
    proxy.set(Way::Silent);
    for feed in feeds {
        let (content, said) = outcome(feed).await;
        assert!(content, "{said}");
    }
    rig.until_event("stream.interrupted", 2).await;
    let waiting = here(rig.root.path()).len();
    assert!(waiting >= 8, "{waiting} files");
    assert!(rig.store.all_fragments().len() <= before + 2, "indexed before they were uploaded");

    proxy.set(Way::Open);
    rig.until("nothing that waits", |rig| here(rig.root.path()).is_empty()).await;
    for name in ["str_a", "str_b"] {
        let of = |fragments: Vec<Fragment>| -> Vec<Fragment> {
            fragments.into_iter().filter(|f| f.stream_id.as_str() == name).collect()
        };
        let fragments = of(rig.store.all_fragments());
        assert_eq!(fragments.len(), 7);
        assert!(fragments.is_sorted_by_key(|f| f.start) && fragments[6].end >= MediaTime::from_millis(13_800));
        assert_eq!(of(rig.bus.fragments()), fragments);
    }
}

#[test]
fn what_a_killed_process_left_is_uploaded_by_the_next() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = Server::shared();
    let store = Arc::new(MemoryStore::with(vec![created("str_a")]));
    let root = Arc::new(tempfile::tempdir().unwrap());
    let around = runtime();
    let proxy = around.block_on(Proxy::before(server));
    let settings = || settings(server, &proxy.endpoint);
    let storage = settings().storage;

    let first = runtime();
    let feed = first.block_on(async {
        let settings = Settings { storage: storage.clone(), ..settings() };
        let rig = Rig::start_in(settings, store.clone(), root.clone()).await;
        let feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
        rig.until("an upload", |rig| !rig.store.all_fragments().is_empty()).await;
        proxy.set(BUSY);
        // The last of them is still open.
        rig.until("files that wait", |rig| here(rig.root.path()).len() >= 4).await;
        // Nothing of it is dropped in order.
        std::mem::forget(rig);
        feed
    });
    let left = here(root.path()).len();
    // All its tasks stop where they are.
    first.shutdown_background();
    drop(feed);
    let indexed = store.all_fragments().len();

    let second = runtime();
    second.block_on(async {
        let settings = Settings { storage, reconnect: Span(Duration::from_millis(300)), ..settings() };
        let rig = Rig::start_in(settings, store.clone(), root.clone()).await;
        // Nobody comes back. The session ends where its media does, uploaded or not.
        rig.until_event("stream.ended", 1).await;
        assert!(here(root.path()).len() >= left.min(4), "nothing is removed before it is uploaded");
        assert_eq!(store.all_fragments().len(), indexed);
        let signals = rig.bus.signals();
        let Some((1, SignalEntry::SessionEnd { at })) = signals.last() else { panic!("{signals:?}") };

        proxy.set(Way::Open);
        rig.until("nothing that waits", |_| here(root.path()).is_empty()).await;
        let fragments = store.all_fragments();
        assert!(fragments.len() > indexed + 2, "{fragments:?}");
        assert_eq!(fragments.last().unwrap().end, *at);
        let told = rig.bus.fragments();
        assert_eq!(told, fragments[fragments.len() - told.len()..], "told once more at most");
        all_is_stored(&rig.objects, &fragments, &fragments).await;
        let folder = crest_core::object::session_folder(
            &fragments[0].organization_id,
            &fragments[0].stream_id,
            fragments[0].session,
        );
        rig.until("no empty folder", |_| !root.path().join(&folder).exists()).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_nobody_is_not_uploaded() {
    let server = Server::shared();
    let root = Arc::new(tempfile::tempdir().unwrap());
    let file = root.path().join("media/org_a/str_gone/00001/segment-000000.mp4");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "media").unwrap();
    let store = Arc::new(MemoryStore::with(vec![created("str_a")]));
    let mut rig = Rig::start_in(settings(server, &server.endpoint), store, root).await;
    assert!(outcome(publisher(&rig.url("key-of-str_a"), 3, &[])).await.0);
    rig.until_event("stream.interrupted", 1).await;
    rig.stop().await;
    assert_eq!(here(rig.root.path()), [file], "it is kept until it is old");
    all_is_stored(&rig.objects, &rig.store.all_fragments(), &rig.bus.fragments()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_loses_what_is_old_and_nothing_for_want_of_room_here() {
    let server = Server::shared();
    let mut settings = settings(server, &server.endpoint);
    settings.retention.interval = Span(Duration::from_millis(20));
    settings.retention.free_space = bytesize::ByteSize::eib(8);
    let objects = open(&settings.storage, Path::new("/nowhere")).unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    let mut segments = Vec::new();
    for (name, age_hours) in [("a.mp4", 20), ("gone.mp4", 14), ("b.mp4", 13), ("c.mp4", 11), ("d.mp4", 1)] {
        let object = format!("media/{name}");
        if name != "gone.mp4" {
            objects.put(&object, Bytes::from_static(b"media")).await.unwrap();
        }
        segments.push(StoredSegment { object, bytes: 5, ended_at: WallTime(now - age_hours * 3_600_000) });
    }
    let rig = Rig::start(settings, vec![]).await;
    // What waits to be uploaded is the only copy, however short the room is.
    let waiting = rig.root.path().join("media/org_a/str_a/00001/segment-000000.mp4");
    std::fs::create_dir_all(waiting.parent().unwrap()).unwrap();
    std::fs::write(&waiting, "media").unwrap();
    rig.store.set_segments(segments);
    rig.until("removal", |rig| rig.store.segments() == ["media/c.mp4", "media/d.mp4"]).await;
    let left: BTreeSet<String> = objects.list("media").await.unwrap().map(|o| o.unwrap().0).collect().await;
    assert_eq!(left, BTreeSet::from(["media/c.mp4", "media/d.mp4"].map(str::to_owned)));
    assert!(waiting.exists());
}
