//! A volume that runs short of room, as ingest sees it.

use crate::support::{Rig, Settings, created, outcome, publisher, stream};
use crest_core::space::Room;
use crest_core::store::StoredSegment;
use crest_core::stream::{SourceKind, StreamState};
use crest_core::units::Span;
use crest_core::{MediaTime, WallTime};
use std::time::Duration;

const MB: u64 = 1_000_000;

/// The default reserve is 1 GB of a terabyte.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.retention.watch = Span(Duration::from_millis(20));
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_a_running_feed_is_sampled_but_not_stored_and_new_ones_are_refused() {
    let settings = settings();
    let volume = settings.volume.clone();
    let free = |bytes| volume.lock().unwrap().free = bytes;
    let streams = vec![created("str_a"), created("str_b"), stream("str_c", SourceKind::Rtmp, StreamState::Interrupted)];
    let rig = Rig::start(settings, streams).await;
    let feed = publisher(&rig.url("key-of-str_a"), 120, &[]);
    rig.until("media", |rig| !rig.store.all_fragments().is_empty()).await;

    free(500 * MB);
    rig.until("a shortage", |rig| rig.ingest().control().room() == Room::Short).await;
    // What closed in this very moment may still be written.
    let sampled = rig.bus.video().len();
    rig.until("samples", |rig| rig.bus.video().len() > sampled + 8).await;
    let stored = rig.store.all_fragments().len();
    let sampled = rig.bus.video().len();
    rig.until("more samples", |rig| rig.bus.video().len() > sampled + 16).await;
    assert_eq!(rig.store.all_fragments().len(), stored, "stored without room");
    let (content, said) = outcome(publisher(&rig.url("key-of-str_b"), 5, &[])).await;
    assert!(!content && said.contains("disk is full"), "{said}");
    let begun = publisher(&rig.url("key-of-str_c"), 60, &[]);
    rig.until_event("stream.started", 2).await;

    free(1_100 * MB);
    rig.until("storing", |rig| rig.store.all_fragments().len() > stored + 1).await;
    let (content, said) = outcome(publisher(&rig.url("key-of-str_b"), 2, &[])).await;
    assert!(content, "{said}");
    // The gap is a gap: each file is readable by itself, and none holds what lies on both sides.
    let fragments: Vec<_> = rig.store.all_fragments().into_iter().filter(|f| f.stream_id.as_str() == "str_a").collect();
    let gap = fragments.windows(2).position(|pair| pair[1].start > pair[0].end + MediaTime::from_millis(1000));
    let gap = gap.unwrap_or_else(|| panic!("no gap: {fragments:?}"));
    assert_ne!(fragments[gap].object, fragments[gap + 1].object);
    assert!(fragments[gap + 1].keyframe);
    drop((feed, begun));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shortage_removes_the_oldest_at_once_and_no_more_than_needed() {
    let mut settings = settings();
    settings.retention.interval = Span::secs(3600);
    let volume = settings.volume.clone();
    let rig = Rig::start(settings, vec![]).await;
    let now = jiff::Timestamp::now().as_millisecond();
    let segment = |object: &str, age_minutes: i64| StoredSegment {
        object: format!("media/{object}"),
        bytes: 100 * MB,
        ended_at: WallTime(now - age_minutes * 60_000),
    };
    // A feed that stood still for an hour: by its own clock this is the oldest, but it was just written.
    std::fs::create_dir(rig.root.path().join("media")).unwrap();
    std::fs::write(rig.root.path().join("media/slow.mp4"), b"media").unwrap();
    let all = [("slow.mp4", 60), ("a.mp4", 30), ("b.mp4", 20), ("c.mp4", 10), ("d.mp4", 5), ("young.mp4", 1)];
    rig.store.set_segments(all.map(|(object, age)| segment(object, age)).to_vec());
    // 0.9 GB are free beside them; 1.1 GB are enough.
    volume.lock().unwrap().free = 900 * MB + 600 * MB;
    rig.until("removal", |rig| rig.ingest().control().room() == Room::Ample && rig.store.segments().len() < 6).await;
    let left = ["slow.mp4", "c.mp4", "d.mp4", "young.mp4"].map(|name| format!("media/{name}"));
    assert_eq!(rig.store.segments(), left);
    volume.lock().unwrap().free = 400 * MB;
    rig.until("removal of the rest", |rig| rig.store.segments().len() == 2).await;
    let left = ["media/slow.mp4", "media/young.mp4"];
    assert_eq!(rig.store.segments(), left, "what may still be decided on stays");
}
