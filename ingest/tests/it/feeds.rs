//! Feeds from ffmpeg over RTMP: what is stored, sampled and told of them.

use crate::support::{Rig, Settings, created, outcome, publisher, signal, stream};
use crest_core::signal::SignalEntry;
use crest_core::stream::{SessionRow, StreamState};
use crest_core::topic::Topic;
use crest_core::units::Span;
use crest_core::{MediaTime, Session, StreamId, WallTime};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_stored_sampled_and_told() {
    let settings = Settings { reconnect: Span::secs(1), ..Settings::default() };
    let rig = Rig::start(settings, vec![created("str_a")]).await;
    let (content, said) = outcome(publisher(&rig.url("key-of-str_a"), 5, &[])).await;
    assert!(content, "{said}");
    rig.until_event("stream.ended", 1).await;

    assert_eq!(rig.store.events(), ["stream.started", "stream.interrupted", "stream.ended"]);
    assert_eq!(rig.store.reason("stream.interrupted"), "the publisher stopped");
    assert_eq!(rig.bus.order()[0], Topic::Signals, "the session is known before its first sample");
    let signals = rig.bus.signals();
    let [(1, SignalEntry::SessionStart { .. }), (1, SignalEntry::SessionEnd { at })] = signals[..] else {
        panic!("{signals:?}")
    };
    assert!((4.8..5.4).contains(&at.secs_f64()), "{at}");
    assert_eq!(rig.store.all_sessions()[0].ended_at, Some(at));

    let video = rig.bus.video();
    assert_eq!(video.iter().map(|batch| batch.frames.len()).sum::<usize>(), 150);
    assert!(video.windows(2).all(|pair| pair[0].complete_to < pair[1].complete_to));
    for (index, batch) in video.iter().enumerate() {
        let later = &video[index + 1..];
        assert!(later.iter().flat_map(|b| &b.frames).all(|frame| frame.pts >= batch.complete_to));
    }
    let frames: Vec<_> = video.iter().flat_map(|batch| &batch.frames).collect();
    assert!(frames.iter().all(|frame| frame.encoded_bytes > 0));
    assert_eq!(frames.iter().filter(|frame| frame.keyframe && frame.picture.is_some()).count(), 3);

    let audio = rig.bus.audio();
    let heard: usize = audio.iter().map(|window| window.samples.len()).sum();
    assert!((78_000..83_000).contains(&heard), "{heard} samples of 5 s");
    for window in &audio {
        let last = window.start + MediaTime::from_nanos((window.samples.len() as i64 - 1) * 62_500);
        assert_eq!(window.start.bucket(), last.bucket());
    }
    assert!(audio.iter().flat_map(|window| &window.samples).any(|sample| sample.abs() > 0.05));

    let fragments = rig.store.all_fragments();
    assert_eq!(rig.bus.fragments(), fragments);
    assert!(fragments.first().is_some_and(|f| f.start < MediaTime::from_millis(200) && f.keyframe));
    assert!(fragments.last().is_some_and(|f| f.end >= MediaTime::from_millis(4800)));
    assert!(fragments.iter().all(|f| rig.root.path().join(&f.object).is_file()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_of_ten_seconds_does_not_end_the_session() {
    let rig = Rig::start(Settings::default(), vec![created("str_a")]).await;
    let feed = publisher(&rig.url("key-of-str_a"), 3, &[]);
    rig.until("video", |rig| rig.bus.video().len() >= 2).await;
    signal(&feed, "STOP").await;
    // What is tested is this wait.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.store.events(), ["stream.started"]);
    signal(&feed, "CONT").await;
    let (content, said) = outcome(feed).await;
    assert!(content, "{said}");
    rig.until_event("stream.interrupted", 1).await;
    assert_eq!(rig.store.all_sessions().len(), 1);
    assert_eq!(rig.bus.video().iter().map(|batch| batch.frames.len()).sum::<usize>(), 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_dies_and_comes_back_gets_the_next_session() {
    let rig = Rig::start(Settings::default(), vec![created("str_a")]).await;
    let mut feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until("video", |rig| rig.bus.video().len() >= 2).await;
    feed.kill().await.unwrap();
    rig.until_event("stream.interrupted", 1).await;
    assert_eq!(rig.store.state("str_a"), StreamState::Interrupted);
    assert_eq!(rig.bus.signals().len(), 1, "the session may go on");

    let feed = publisher(&rig.url("key-of-str_a"), 2, &[]);
    rig.until_event("stream.resumed", 1).await;
    let (content, said) = outcome(feed).await;
    assert!(content, "{said}");
    rig.until_event("stream.interrupted", 2).await;
    assert_eq!(rig.store.events(), ["stream.started", "stream.interrupted", "stream.resumed", "stream.interrupted"]);
    let signals = rig.bus.signals();
    assert!(
        matches!(
            signals[..],
            [
                (1, SignalEntry::SessionStart { .. }),
                (1, SignalEntry::SessionEnd { .. }),
                (2, SignalEntry::SessionStart { .. })
            ]
        ),
        "{signals:?}"
    );
    let second: Vec<_> = rig.bus.video().into_iter().filter(|batch| batch.session == Session::new(2)).collect();
    assert_eq!(second.iter().map(|batch| batch.frames.len()).sum::<usize>(), 60);
    assert!(second[0].frames[0].pts < MediaTime::from_millis(200), "a new timeline from 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_that_goes_on_is_the_same_session() {
    let rig = Rig::start(Settings::default(), vec![created("str_a")]).await;
    assert!(outcome(publisher(&rig.url("key-of-str_a"), 2, &[])).await.0);
    rig.until_event("stream.interrupted", 1).await;
    assert!(outcome(publisher(&rig.url("key-of-str_a"), 2, &["-output_ts_offset", "20"])).await.0);
    rig.until_event("stream.interrupted", 2).await;
    assert_eq!(rig.store.all_sessions().len(), 1);
    assert_eq!(rig.bus.signals().len(), 1);
    let video = rig.bus.video();
    assert_eq!(video.iter().map(|batch| batch.frames.len()).sum::<usize>(), 120);
    let last = video.iter().flat_map(|batch| &batch.frames).map(|frame| frame.pts).max().unwrap();
    assert!((21.5..22.5).contains(&last.secs_f64()), "the time away is a gap: {last}");
    let fragments = rig.store.all_fragments();
    assert!(fragments.windows(2).all(|pair| pair[0].end <= pair[1].start && pair[0] != pair[1]), "{fragments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_stream_disconnects_its_publisher_and_ends_it() {
    let rig = Rig::start(Settings::default(), vec![created("str_a"), created("str_b")]).await;
    let control = rig.ingest().control();
    let feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until("video", |rig| rig.bus.video().len() >= 2).await;
    control.stop(&rig.store.get("str_a")).await.unwrap();
    assert_eq!(rig.store.state("str_a"), StreamState::Ended);
    assert_eq!(rig.store.events(), ["stream.started", "stream.ended"]);
    assert!(matches!(rig.bus.signals()[..], [_, (1, SignalEntry::SessionEnd { .. })]));
    assert!(!outcome(feed).await.0, "the publisher notices");

    control.stop(&rig.store.get("str_a")).await.unwrap();
    control.stop(&created("str_unknown")).await.unwrap();
    control.stop(&rig.store.get("str_b")).await.unwrap();
    assert_eq!(rig.store.state("str_b"), StreamState::Ended);
    assert_eq!(rig.store.events(), ["stream.started", "stream.ended", "stream.ended"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_leaves_sessions_interrupted_and_the_next_start_takes_them_over() {
    let mut rig = Rig::start(Settings::default(), vec![created("str_a")]).await;
    let feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until("video", |rig| rig.bus.video().len() >= 2).await;
    rig.stop().await;
    assert_eq!(rig.store.state("str_a"), StreamState::Interrupted);
    assert_eq!(rig.store.reason("stream.interrupted"), "server stopped");
    assert!(!outcome(feed).await.0);

    // The publisher is back at the next process: a new timeline, and the old session is over.
    let next = Rig::start_with(Settings::default(), rig.store.clone()).await;
    assert!(outcome(publisher(&next.url("key-of-str_a"), 1, &[])).await.0);
    next.until_event("stream.resumed", 1).await;
    let signals = next.bus.signals();
    // Its log is begun once more, in case the earlier process died before it had.
    let [again, end, start] = &signals[..] else { panic!("{signals:?}") };
    assert!(matches!(again, (1, SignalEntry::SessionStart { .. })), "{signals:?}");
    assert!(matches!(end, (1, SignalEntry::SessionEnd { .. })), "{signals:?}");
    assert!(matches!(start, (2, SignalEntry::SessionStart { .. })), "{signals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_left_live_ends_when_nobody_comes_back() {
    let mut left = stream("str_a", crest_core::stream::SourceKind::Rtmp, StreamState::Live);
    left.session = Some(Session::new(3));
    let store = std::sync::Arc::new(crate::support::memory::MemoryStore::with(vec![left]));
    store.add_session(SessionRow {
        stream_id: StreamId::from_raw("str_a"),
        session: Session::new(3),
        started_at: WallTime(0),
        ended_at: None,
    });
    let settings = Settings { reconnect: Span(Duration::from_millis(300)), ..Settings::default() };
    let rig = Rig::start_with(settings, store).await;
    rig.until_event("stream.ended", 1).await;
    assert_eq!(rig.store.events(), ["stream.interrupted", "stream.ended"]);
    let begins = SignalEntry::SessionStart { wall: WallTime(0), media: true };
    let signals = rig.bus.signals();
    assert!(matches!(signals[..], [(3, first), (3, SignalEntry::SessionEnd { .. })] if first == begins), "{signals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_end_cannot_be_kept_is_ended_as_soon_as_it_can() {
    let mut left = stream("str_a", crest_core::stream::SourceKind::Rtmp, StreamState::Interrupted);
    left.session = Some(Session::new(1));
    let store = std::sync::Arc::new(crate::support::memory::MemoryStore::with(vec![left]));
    store.add_session(SessionRow {
        stream_id: StreamId::from_raw("str_a"),
        session: Session::new(1),
        started_at: WallTime(0),
        ended_at: None,
    });
    store.set_full(true);
    let settings = Settings { reconnect: Span(Duration::from_millis(100)), ..Settings::default() };
    let rig = Rig::start_with(settings, store.clone()).await;
    // More than one attempt is patient for.
    rig.until("attempts", |_| store.refused() >= 6).await;
    assert_eq!(rig.store.state("str_a"), StreamState::Interrupted);
    store.set_full(false);
    rig.until_event("stream.ended", 1).await;
    assert_eq!(rig.store.state("str_a"), StreamState::Ended);
}
