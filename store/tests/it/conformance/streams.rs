//! Streams, their states and sessions, and paging.

use crest_core::event::EventType;
use crest_core::store::Page;
use crest_core::stream::StreamState::{Created, Ended, Interrupted, Live};
use crest_core::stream::{ForwardState, ForwardStatus, ForwardTarget, SourceKind, Stream};
use crest_core::view::{Links, stream_event};
use crest_core::{Fault, MediaTime, Session, StreamId, WallTime};

use super::world::{FIRST, NOW, World, instance, page, stream_of};

#[tokio::test]
async fn a_step_commits_its_event_once_and_is_kept_in_the_history() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    let started = stream_event(
        &world.organization,
        &world.stream,
        Some(FIRST),
        EventType::StreamStarted,
        None,
        NOW,
        &Links::new("https://crest.example"),
    );
    let step = || world.store.transition_stream(&world.stream, None, Live, None, NOW, std::slice::from_ref(&started));
    assert!(step().await.unwrap());
    assert!(!step().await.unwrap(), "it is there already");
    let later = NOW.plus_millis(5);
    assert!(
        world.store.transition_stream(&world.stream, None, Interrupted, Some("stalled"), later, &[]).await.unwrap()
    );

    let stream = world.store.stream(&world.organization, &world.stream).await.unwrap().unwrap();
    assert_eq!(
        (stream.state, stream.state_reason.as_deref(), stream.updated_at),
        (Interrupted, Some("stalled"), later)
    );
    let deliveries = world.deliveries_of(&endpoint).await;
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].body, started.body(1));

    let history = world.home.history().await;
    assert_eq!(
        history,
        [(1, "created".into(), "live".into(), None), (2, "live".into(), "interrupted".into(), Some("stalled".into()))]
    );
}

#[tokio::test]
async fn pulled_streams_that_are_not_over_are_counted_by_organization() {
    let world = World::new().await;
    let pulled = |id: &str| Stream {
        source: SourceKind::Url,
        source_url: Some("https://a.test/live.m3u8".to_owned()),
        ..stream_of(&world.organization, &StreamId::from_raw(id), NOW)
    };
    let count = async || world.store.open_pulls(&world.organization).await.unwrap();
    assert_eq!(count().await, 0, "the one that is there is pushed");
    for id in ["str_p1", "str_p2"] {
        world.store.create_stream(&pulled(id)).await.unwrap();
    }
    assert_eq!(count().await, 2);
    world.store.transition_stream(&StreamId::from_raw("str_p1"), None, Ended, None, NOW, &[]).await.unwrap();
    assert_eq!(count().await, 1);
    let other = world.store.create_organization("other", "sk_other", NOW).await.unwrap();
    assert_eq!(world.store.open_pulls(&other.id).await.unwrap(), 0);
}

#[tokio::test]
async fn an_illegal_step_is_a_conflict_and_tells_nobody() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    let store = &world.store;
    store.transition_stream(&world.stream, None, Ended, None, NOW, &[]).await.unwrap();
    let links = Links::new("https://crest.example");
    let event = stream_event(&world.organization, &world.stream, None, EventType::StreamResumed, None, NOW, &links);
    let error = store.transition_stream(&world.stream, None, Live, None, NOW, &[event]).await.unwrap_err();
    assert_eq!(error.fault, Fault::Conflict);
    assert!(world.deliveries_of(&endpoint).await.is_empty());
    let unknown = store.transition_stream(&StreamId::from_raw("str_no"), None, Live, None, NOW, &[]).await.unwrap_err();
    assert_eq!(unknown.fault, Fault::NotFound);
    assert_eq!(store.start_session(&world.stream, NOW, &instance("one")).await.unwrap_err().fault, Fault::Conflict);
}

#[tokio::test]
async fn the_next_session_ends_the_one_before() {
    let world = World::new().await;
    let store = &world.store;
    store.add_fragment(&world.fragment("one.mp4", 100, 0, 4, true)).await.unwrap();
    assert_eq!(
        store.start_session(&world.stream, NOW.plus_millis(60_000), &instance("two")).await.unwrap(),
        Session::new(2)
    );
    let rows = store.sessions(&world.stream).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].session, rows[0].started_at, rows[0].ended_at),
        (FIRST, NOW, Some(MediaTime::from_millis(4000)))
    );
    assert_eq!((rows[1].session, rows[1].ended_at), (Session::new(2), None));
    store.end_session(&world.stream, Session::new(2), MediaTime::from_millis(1500)).await.unwrap();
    assert_eq!(store.sessions(&world.stream).await.unwrap()[1].ended_at, Some(MediaTime::from_millis(1500)));
    let unknown = store.end_session(&world.stream, Session::new(3), MediaTime::ZERO).await.unwrap_err();
    assert_eq!(unknown.fault, Fault::NotFound);
    let stream = store.stream(&world.organization, &world.stream).await.unwrap().unwrap();
    assert_eq!((stream.session, stream.instance), (Some(Session::new(2)), Some(instance("two"))));
}

#[tokio::test]
async fn a_session_that_is_started_again_is_the_same_until_it_ends() {
    let world = World::new().await;
    let start =
        async |at: WallTime, by: &str| world.store.start_session(&world.stream, at, &instance(by)).await.unwrap();
    assert_eq!(start(NOW, "one").await, FIRST);
    assert_eq!(world.store.sessions(&world.stream).await.unwrap().len(), 1);
    assert_eq!(start(NOW, "two").await, Session::new(2), "another process feeds it now");
    assert_eq!(start(NOW, "two").await, Session::new(2));
    world.store.end_session(&world.stream, Session::new(2), MediaTime::ZERO).await.unwrap();
    assert_eq!(start(NOW, "two").await, Session::new(3));
    assert_eq!(start(NOW.plus_millis(1), "two").await, Session::new(4));
}

#[tokio::test]
async fn whoever_fed_an_earlier_session_steps_the_stream_no_more() {
    let world = World::new().await;
    let step = |session, to| world.store.transition_stream(&world.stream, Some(session), to, None, NOW, &[]);
    assert!(step(FIRST, Live).await.unwrap());
    world.store.start_session(&world.stream, NOW, &instance("two")).await.unwrap();
    assert_eq!(step(FIRST, Interrupted).await.unwrap_err().fault, Fault::Conflict);
    assert_eq!(step(FIRST, Live).await.unwrap_err().fault, Fault::Conflict);
    assert!(!step(Session::new(2), Live).await.unwrap());
    assert!(step(Session::new(2), Interrupted).await.unwrap());
}

#[tokio::test]
async fn what_no_text_can_hold_is_not_found() {
    let world = World::new().await;
    let nobody = StreamId::from_raw("str_a\0");
    assert_eq!(world.store.stream(&world.organization, &nobody).await.unwrap(), None);
    assert_eq!(world.store.stream_of_key("key_of_str_a\0").await.unwrap(), None);
}

#[tokio::test]
async fn found_by_key_and_by_state() {
    let world = World::new().await;
    let found = world.store.stream_of_key("key_of_str_a").await.unwrap().unwrap();
    assert_eq!(found.id, world.stream);
    assert_eq!(world.store.stream_of_key("key_of_nobody").await.unwrap(), None);
    assert_eq!(world.store.streams_in(&[Live, Interrupted]).await.unwrap(), []);
    assert_eq!(world.store.streams_in(&[]).await.unwrap(), []);
    assert_eq!(world.store.streams_in(&[Live, Created]).await.unwrap(), [found]);
    let again = world.store.create_stream(&stream_of(&world.organization, &world.stream, NOW)).await.unwrap_err();
    assert_eq!(again.fault, Fault::Conflict);
}

#[tokio::test]
async fn pages_show_each_stream_once_while_more_are_added() {
    let world = World::new().await;
    let add = async |n: i64, at: WallTime| {
        let stream = stream_of(&world.organization, &StreamId::from_raw(format!("str_{n:03}")), at);
        world.store.create_stream(&stream).await.unwrap();
    };
    // Three of them in each millisecond: equal times must not hide or repeat any.
    for n in 0..9 {
        add(n, NOW.plus_millis(1 + n / 3)).await;
    }
    let (mut seen, mut after, mut added) = (Vec::new(), None, 100);
    loop {
        let part = world.store.streams(&world.organization, &Page { after, limit: 2 }).await.unwrap();
        assert!(part.items.len() <= 2);
        seen.extend(part.items.iter().map(|s| s.id.to_string()));
        add(added, NOW.plus_millis(1000 + added)).await;
        added += 1;
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    let mut expected: Vec<String> = (0..9).rev().map(|n| format!("str_{n:03}")).collect();
    expected.push("str_a".into());
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_limit_is_capped_and_a_made_up_cursor_refused() {
    let world = World::new().await;
    assert_eq!(world.store.streams(&world.organization, &page(u32::MAX)).await.unwrap().items.len(), 1);
    assert_eq!(world.store.streams(&world.organization, &page(0)).await.unwrap().items.len(), 1);
    for bad in ["", "!", "bm90IGEgY3Vyc29y", "5", "MTpzdHJfAGE"] {
        let page = Page { after: Some(bad.into()), limit: 5 };
        let error = world.store.streams(&world.organization, &page).await.unwrap_err();
        assert_eq!(error.fault, Fault::User, "{bad}");
    }
}

#[tokio::test]
async fn a_key_that_was_replaced_opens_nothing_any_more() {
    let world = World::new().await;
    let other = world.store.create_organization("other", "crest_sk_other", NOW).await.unwrap();
    let rotate = |organization, id, key| world.store.rotate_stream_key(organization, id, key);
    let nobody = StreamId::from_raw("str_no");
    assert_eq!(rotate(&world.organization, &nobody, "key_new").await.unwrap(), None);
    assert_eq!(rotate(&other.id, &world.stream, "key_new").await.unwrap(), None, "another tenant's");
    assert!(world.store.stream_of_key("key_of_str_a").await.unwrap().is_some());

    for _ in 0..2 {
        let rotated = rotate(&world.organization, &world.stream, "key_new").await.unwrap().unwrap();
        assert_eq!(rotated.stream_key, "key_new");
        assert_eq!(world.store.stream_of_key("key_new").await.unwrap(), Some(rotated));
        assert_eq!(world.store.stream_of_key("key_of_str_a").await.unwrap(), None);
    }
    world.store.transition_stream(&world.stream, None, Ended, None, NOW, &[]).await.unwrap();
    let late = rotate(&world.organization, &world.stream, "key_late").await.unwrap_err();
    assert_eq!(late.fault, Fault::Conflict);
    assert!(world.store.stream_of_key("key_new").await.unwrap().is_some(), "whoever has it is told that it is over");
}

#[tokio::test]
async fn how_servers_are_doing_is_noted_beside_a_stream() {
    let world = World::new().await;
    let mut stream = stream_of(&world.organization, &StreamId::from_raw("str_relayed"), NOW);
    let target = |url: &str| ForwardTarget { url: url.to_owned(), stream_key: Some("a key".to_owned()) };
    stream.forward = vec![target("rtmp://a.test/app"), target("rtmps://b.test/app")];
    stream.audio_track = Some(3);
    world.store.create_stream(&stream).await.unwrap();
    let read = async || world.store.stream(&world.organization, &stream.id).await.unwrap().unwrap();
    assert_eq!(read().await, stream);
    let status = |state, reason: Option<&str>| ForwardStatus { state, reason: reason.map(str::to_owned), since: NOW };
    stream.forwarded = vec![status(ForwardState::Live, None), status(ForwardState::Waiting, Some("gone"))];
    world.store.note_forwards(&stream.id, &stream.forwarded).await.unwrap();
    assert_eq!(read().await, stream, "nothing else changed");
    world.store.note_forwards(&stream.id, &[]).await.unwrap();
    assert_eq!(read().await.forwarded, []);
}
