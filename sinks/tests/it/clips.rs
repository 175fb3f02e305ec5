//! What becomes of clip jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use crest_core::codec::{AudioCodec, AudioConfig, MediaEvent, Packet};
use crest_core::event::{Event, EventType};
use crest_core::highlight::{Highlight, HighlightState, StoredHighlight};
use crest_core::job::{Job, JobKind, JobState};
use crest_core::segment::Fragment;
use crest_core::space::{Room, Space};
use crest_core::stream::SessionRow;
use crest_core::{Error, HighlightId, JobId, MediaTime, OrganizationId, Session, StreamId, WallTime, object};
use crest_media::{Segmenter, SegmenterConfig};
use crest_sinks::ClipsConfig;

use crate::store::{Memory, Row};
use crate::{clips, millis, start, start_in, webhooks};

const SESSION: Session = Session::new(1);

fn organization() -> OrganizationId {
    OrganizationId::from_raw("org_a")
}

fn stream() -> StreamId {
    StreamId::from_raw("str_a")
}

/// A store with a highlight from 10 s to 14 s, its clip job, and a session that has ended or not.
pub fn store(state: HighlightState, ended_at: Option<MediaTime>) -> Arc<Memory> {
    let store = Memory::default();
    let id = HighlightId::from_raw("hl_a");
    let highlight = Highlight {
        id: id.clone(),
        organization_id: organization(),
        stream_id: stream(),
        session: SESSION,
        state,
        revision: 3,
        start: MediaTime::from_millis(10_000),
        end: MediaTime::from_millis(14_000),
        peak: MediaTime::from_millis(12_000),
        score: 0.8,
        kind: "moment".to_owned(),
        dimensions: BTreeMap::new(),
        factors: Vec::new(),
        dimension_set_version: 1,
        reason: None,
    };
    let started_at = WallTime(1_795_000_000_000);
    let job = Job {
        id: JobId::derive(JobKind::Clip.name(), id.as_str()),
        organization_id: organization(),
        kind: JobKind::Clip,
        subject: id.to_string(),
        attempt: 0,
        leased_until: WallTime(0),
        trace: None,
    };
    store.with(|state| {
        state.highlights.push(StoredHighlight {
            highlight,
            clip: None,
            thumbnail: None,
            clip_start: None,
            clip_duration: None,
            session_started_at: started_at,
            detected_at: started_at,
        });
        state.sessions.push(SessionRow { stream_id: stream(), session: SESSION, started_at, ended_at });
        state.jobs.push(Row { value: (job, JobState::Queued), due: started_at, leased_until: WallTime(0) });
    });
    Arc::new(store)
}

fn fragment(start_ms: i64, end_ms: i64) -> Fragment {
    Fragment {
        organization_id: organization(),
        stream_id: stream(),
        session: SESSION,
        object: object::segment(&organization(), &stream(), SESSION, 1),
        header_bytes: 100,
        offset: 100,
        bytes: 1000,
        start: MediaTime::from_millis(start_ms),
        end: MediaTime::from_millis(end_ms),
        keyframe: true,
    }
}

fn data(event: &Event) -> serde_json::Value {
    let body: serde_json::Value = serde_json::from_str(&event.body(7)).unwrap();
    body["data"].clone()
}

#[tokio::test]
async fn a_highlight_of_chat_alone_is_ready_without_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(HighlightState::Final, Some(MediaTime::from_millis(60_000)));
    let config = ClipsConfig { max_wait: millis(50), ..clips() };
    let _running = start(&store, folder.path(), webhooks(), config);
    store.until("ready", |state| !state.finished.is_empty()).await;

    let (result, event) = store.with(|state| state.finished[0].clone());
    assert_eq!((result.clip, result.thumbnail), (None, None));
    assert_eq!((event.event_type, event.revision), (EventType::HighlightReady, 4));
    let data = data(&event);
    assert_eq!((&data["state"], &data["revision"]), (&"ready".into(), &4.into()));
    assert!(data["clip_url"].is_null() && data["clip_start_s"].is_null());
    assert_eq!(data["url"], "https://crest.example/v1/highlights/hl_a");
}

/// Twenty seconds of stored silence (AAC, 48 kHz, stereo) without a picture.
pub fn sound(root: &std::path::Path, config: SegmenterConfig) -> Vec<Fragment> {
    let mut segmenter = Segmenter::new(root, organization(), stream(), SESSION, config);
    let record = Bytes::from_static(&[0x11, 0x90]);
    let config = AudioConfig { codec: AudioCodec::Aac, record, sample_rate: 48_000, channels: 2 };
    let mut fragments = segmenter.push(&MediaEvent::AudioConfig(config)).unwrap();
    for frame in 0..(20 * 48_000 / 1024) {
        let at = MediaTime::from_nanos(frame * 1024 * 1_000_000_000 / 48_000);
        let data = Bytes::from_static(&[0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c]);
        let packet = Packet { pts: at, dts: at, keyframe: true, data };
        fragments.extend(segmenter.push(&MediaEvent::Audio(packet)).unwrap());
    }
    fragments.extend(segmenter.finish().unwrap());
    fragments
}

#[tokio::test]
async fn a_clip_of_sound_alone_is_ready_without_a_thumbnail() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(HighlightState::Final, None);
    let stored = sound(folder.path(), SegmenterConfig::default());
    store.with(|state| state.fragments.extend(stored));
    let _running = start(&store, folder.path(), webhooks(), clips());
    store.until("ready", |state| !state.finished.is_empty()).await;

    let (result, event) = store.with(|state| state.finished[0].clone());
    assert_eq!(result.clip.as_deref(), Some("clips/org_a/hl_a.mp4"));
    assert_eq!(result.thumbnail, None);
    assert!(result.clip_start <= MediaTime::from_millis(8_000), "{result:?}");
    assert!(result.clip_start + result.clip_duration >= MediaTime::from_millis(16_000), "{result:?}");
    let file = std::fs::read(folder.path().join("clips/org_a/hl_a.mp4")).unwrap();
    assert_eq!(&file[4..8], b"ftyp");
    let data = data(&event);
    assert_eq!(data["clip_url"], "https://crest.example/v1/highlights/hl_a/clip");
    assert_eq!(data["clip_start_s"], result.clip_start.secs_f64());
    assert!(data["thumbnail_url"].is_null());
}

#[tokio::test]
async fn a_clip_waits_until_what_it_shows_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(HighlightState::Final, None);
    // The clip shows what comes until 16 s.
    let (early, late): (Vec<_>, Vec<_>) = sound(folder.path(), SegmenterConfig::default())
        .into_iter()
        .partition(|fragment| fragment.end < MediaTime::from_millis(16_000));
    store.with(|state| state.fragments.extend(early));
    let config = ClipsConfig { attempts: 1, ..clips() };
    let _running = start(&store, folder.path(), webhooks(), config);
    store.until("put back again and again", |state| state.requeued.len() > 5).await;
    assert!(store.with(|state| state.finished.is_empty() && state.failed.is_empty()));
    // The waiting has not used up the only attempt.
    store.with(|state| state.fragments.extend(late));
    store.until("cut", |state| !state.finished.is_empty()).await;
    let (result, _) = store.with(|state| state.finished[0].clone());
    assert!(result.clip_start + result.clip_duration >= MediaTime::from_millis(16_000), "{result:?}");
}

#[tokio::test]
async fn a_session_that_is_over_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(HighlightState::Final, Some(MediaTime::from_millis(15_000)));
    store.with(|state| state.fragments.push(fragment(8_000, 15_000)));
    let _running = start(&store, folder.path(), webhooks(), ClipsConfig { attempts: 1, ..clips() });
    store.until("tried", |state| !state.failed.is_empty()).await;
    assert!(store.with(|state| state.requeued.is_empty()));
}

#[tokio::test]
async fn a_clip_whose_media_is_gone_fails_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(HighlightState::Final, None);
    store.with(|state| state.fragments.push(fragment(30_000, 34_000)));
    let _running = start(&store, folder.path(), webhooks(), clips());
    store.until("failed", |state| !state.failed.is_empty()).await;

    let (reason, event) = store.with(|state| state.failed[0].clone());
    assert!(reason.contains("no media is stored between 8.000 s and 16.000 s"), "{reason}");
    assert_eq!((event.event_type, event.revision), (EventType::HighlightFailed, 4));
    assert_eq!(data(&event)["reason"], reason);
    assert_eq!(data(&event)["state"], "failed");
}

#[tokio::test]
async fn cutting_is_tried_as_often_as_configured() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(HighlightState::Final, None);
    let stored = sound(folder.path(), SegmenterConfig::default());
    store.with(|state| state.fragments.extend(stored));
    // The folder for clips cannot be made.
    std::fs::write(folder.path().join("clips"), "in the way").unwrap();
    let _running = start(&store, folder.path(), webhooks(), ClipsConfig { attempts: 2, ..clips() });
    store.until("failed", |state| !state.failed.is_empty()).await;
    assert_eq!(store.with(|state| (state.requeued.len(), state.jobs[0].value.0.attempt)), (1, 2));
    assert!(store.with(|state| state.failed[0].0.contains("cannot write")));
}

#[tokio::test]
async fn a_clip_nobody_wants_any_more_is_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    for state in [HighlightState::Deleted, HighlightState::Ready] {
        let store = store(state, None);
        let _running = start(&store, folder.path(), webhooks(), clips());
        store.until("cancelled", |state| !state.cancelled.is_empty()).await;
    }
    let store = store(HighlightState::Final, None);
    store.with(|state| state.highlights.clear());
    let _running = start(&store, folder.path(), webhooks(), clips());
    store.until("cancelled", |state| !state.cancelled.is_empty()).await;
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_does_not_fail_the_clip() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(HighlightState::Final, Some(MediaTime::ZERO));
    store.with(|state| state.faults.extend(std::iter::repeat_n(Error::outside("database is locked"), 6)));
    let config = ClipsConfig { max_wait: millis(50), attempts: 1, workers: 1, ..clips() };
    let _running = start(&store, folder.path(), webhooks(), config);
    store.until("ready", |state| !state.finished.is_empty()).await;
    assert!(store.with(|state| state.failed.is_empty()));
}

#[tokio::test]
async fn a_clip_that_there_is_no_room_for_waits_and_is_not_failed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(HighlightState::Final, None);
    let stored = sound(folder.path(), SegmenterConfig::default());
    store.with(|state| state.fragments.extend(stored));
    let space = Space::default();
    // Less than the clip takes.
    space.publish(Room::Short, 100, WallTime(0));
    let config = ClipsConfig { attempts: 1, ..clips() };
    let _running = start_in(space.clone(), &store, folder.path(), webhooks(), config);
    store.until("put back", |state| !state.requeued.is_empty()).await;
    assert!(store.with(|state| state.finished.is_empty() && state.failed.is_empty()));
    assert!(!folder.path().join("clips").exists(), "something was written");
    space.publish(Room::Short, 1 << 30, WallTime(1));
    store.until("cut", |state| !state.finished.is_empty()).await;
    assert!(store.with(|state| state.finished[0].0.clip.is_some()));
}

#[tokio::test]
async fn a_moment_that_was_not_stored_for_want_of_room_says_so() {
    // Nothing of the session is stored, or only what lies elsewhere.
    for elsewhere in [vec![], vec![fragment(30_000, 34_000)]] {
        let folder = tempfile::tempdir().unwrap();
        let store = store(HighlightState::Final, Some(MediaTime::from_millis(34_000)));
        store.with(|state| state.fragments.extend(elsewhere));
        let space = Space::default();
        let started_at = store.with(|state| state.sessions[0].started_at);
        space.publish(Room::Short, 0, started_at.plus_millis(5_000));
        space.publish(Room::Ample, 1 << 30, started_at.plus_millis(20_000));
        let config = ClipsConfig { max_wait: millis(50), ..clips() };
        let _running = start_in(space, &store, folder.path(), webhooks(), config);
        store.until("failed", |state| !state.failed.is_empty()).await;
        let (reason, _) = store.with(|state| state.failed[0].clone());
        assert!(reason.contains("disk was full"), "{reason}");
    }
}
