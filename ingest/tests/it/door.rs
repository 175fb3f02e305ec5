//! Who is let in, who is refused and what they are told; and what is cleared away.

use crate::support::{Rig, Settings, created, outcome, publisher, stream};
use crest_core::WallTime;
use crest_core::store::StoredSegment;
use crest_core::stream::{SourceKind, StreamState};
use crest_core::units::Span;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_publish_is_told_why() {
    let streams = vec![
        created("str_a"),
        stream("str_over", SourceKind::Rtmp, StreamState::Ended),
        stream("str_whip", SourceKind::Whip, StreamState::Created),
    ];
    let rig = Rig::start(Settings::default(), streams).await;
    for (key, reason) in [
        ("wrong", "unknown stream key"),
        ("key-of-str_over", "this stream is over"),
        ("key-of-str_whip", "another protocol"),
    ] {
        let (content, said) = outcome(publisher(&rig.url(key), 5, &[])).await;
        assert!(!content && said.contains(reason), "{key}: {said}");
    }
    let elsewhere = rig.url("key-of-str_a").replace("/live/", "/other/");
    let (content, said) = outcome(publisher(&elsewhere, 5, &[])).await;
    assert!(!content && said.contains("no such application"), "{said}");

    let first = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until_event("stream.started", 1).await;
    let (content, said) = outcome(publisher(&rig.url("key-of-str_a"), 5, &[])).await;
    assert!(!content && said.contains("being fed already"), "{said}");
    assert_eq!(rig.store.events(), ["stream.started"], "the first publisher was not disturbed");
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_silent_ones_are_closed() {
    let mut settings = Settings::default();
    settings.rtmp.max_connections = 1;
    settings.rtmp.handshake = Span(Duration::from_millis(500));
    let rig = Rig::start(settings, vec![created("str_a")]).await;
    let address = rig.ingest().rtmp_address();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let closed = |result: std::io::Result<usize>| result.map_or(true, |bytes| bytes == 0);
    let limit = Duration::from_secs(10);
    assert!(closed(tokio::time::timeout(limit, second.read(&mut [0; 1])).await.unwrap()));
    assert!(closed(tokio::time::timeout(limit, silent.read(&mut [0; 1])).await.unwrap()));
    let (content, said) = outcome(publisher(&rig.url("key-of-str_a"), 1, &[])).await;
    assert!(content, "the place is free again: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_falls_silent_is_taken_for_gone() {
    let mut settings = Settings::default();
    settings.rtmp.idle = Span(Duration::from_millis(700));
    let rig = Rig::start(settings, vec![created("str_a")]).await;
    let feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until_event("stream.started", 1).await;
    crate::support::signal(&feed, "STOP").await;
    rig.until_event("stream.interrupted", 1).await;
    assert_eq!(rig.store.reason("stream.interrupted"), "nothing was received for too long");
    // It is frozen and has its socket still, when the next one comes with the same key.
    let next = publisher(&rig.url("key-of-str_a"), 1, &[]);
    rig.until_event("stream.resumed", 1).await;
    let (content, said) = outcome(next).await;
    assert!(content, "{said}");
    crate::support::signal(&feed, "CONT").await;
    let (content, said) = outcome(feed).await;
    assert!(!content, "its connection was closed: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_names_the_setting() {
    let rig = Rig::start(Settings::default(), vec![]).await;
    let config = crest_ingest::RtmpConfig { listen: rig.ingest().rtmp_address(), ..Default::default() };
    let error = crest_ingest::rtmp::RtmpServer::bind(config).await.err().unwrap();
    assert!(error.message.contains("rtmp.listen"), "{error}");
    let url = format!("rtmp://{}/live", rig.ingest().rtmp_address());
    assert_eq!(rig.ingest().control().addresses().await.unwrap().unwrap().rtmp, Some(url));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_segments_go_and_young_ones_stay() {
    let store = std::sync::Arc::new(crate::support::memory::MemoryStore::with(vec![]));
    let mut settings = Settings::default();
    settings.retention.interval = Span(Duration::from_millis(20));
    let rig = Rig::start_with(settings, store).await;
    let now = jiff::Timestamp::now().as_millisecond();
    std::fs::create_dir(rig.root.path().join("media")).unwrap();
    let segment = |object: &str, age_hours: i64| {
        std::fs::write(rig.root.path().join(object), b"media").unwrap();
        StoredSegment { object: object.to_owned(), bytes: 5, ended_at: WallTime(now - age_hours * 3_600_000) }
    };
    rig.store.set_segments(vec![segment("media/a.mp4", 20), segment("media/b.mp4", 13), segment("media/c.mp4", 11)]);
    rig.until("removal", |rig| rig.store.segments() == ["media/c.mp4"]).await;
    assert!(!rig.root.path().join("media/a.mp4").exists() && !rig.root.path().join("media/b.mp4").exists());
    assert!(rig.root.path().join("media/c.mp4").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_short_of_space_loses_the_oldest_but_nothing_that_is_open() {
    let store = std::sync::Arc::new(crate::support::memory::MemoryStore::with(vec![]));
    let mut settings = Settings::default();
    settings.retention.interval = Span(Duration::from_millis(20));
    // More than the volume has: half of it is asked for.
    settings.retention.free_space = bytesize::ByteSize::eib(8);
    *settings.volume.lock().unwrap() = crest_ingest::Volume { bytes: 1 << 40, free: 1 << 38 };
    let rig = Rig::start_with(settings, store).await;
    let now = jiff::Timestamp::now().as_millisecond();
    let segment = |object: &str, age_minutes: i64| StoredSegment {
        object: object.to_owned(),
        bytes: 5,
        ended_at: WallTime(now - age_minutes * 60_000),
    };
    rig.store.set_segments(vec![segment("media/old.mp4", 30), segment("media/open.mp4", 0)]);
    rig.until("removal", |rig| rig.store.segments() == ["media/open.mp4"]).await;
}
