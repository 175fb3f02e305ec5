//! The event stream: what it tells, to whom, from where on, and when it ends.

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use crest_control_api::ApiConfig;
use crest_core::WallTime;
use crest_core::event::{Event, EventType};
use crest_core::units::Span;
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tower::ServiceExt;

use crate::world::{ALICE, BOB, OPERATOR, World, organization};

/// Generous: a test that gets there has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn config() -> ApiConfig {
    ApiConfig { event_poll: Span(Duration::from_millis(5)), ..ApiConfig::default() }
}

/// Commits an event of a tenant.
fn commit(world: &World, tenant: &str, event_type: EventType, revision: u64) -> Event {
    let data = json!({"stream_id": "str_1", "reason": "line\nbreak"});
    let event = Event::new(organization(tenant), event_type, "str_1", revision, WallTime(revision as i64), data);
    world.store.events.lock().unwrap().push(event.clone());
    event
}

/// An open stream, read message by message.
struct Open {
    body: BodyDataStream,
    organization: String,
}

#[derive(Debug, PartialEq)]
struct Message {
    id: String,
    event: String,
    data: Option<Value>,
}

impl Open {
    async fn new(world: &World, key: &str, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(format!("/v1/events{query}")).header("authorization", format!("Bearer {key}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let organization = response.headers()["crest-organization"].to_str().unwrap().to_owned();
        Self { body: response.into_body().into_data_stream(), organization }
    }

    /// The next block as it is sent; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        let next = tokio::time::timeout(LIMIT, self.body.next()).await.expect("nothing was sent");
        next.map(|bytes| String::from_utf8(bytes.unwrap().to_vec()).unwrap())
    }

    /// The next message with data.
    async fn message(&mut self) -> Message {
        loop {
            let block = self.block().await.expect("the stream has ended");
            let field = |name: &str| {
                let mut values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                (values.next().unwrap_or_default().to_owned(), values.next())
            };
            let (data, more) = field("data");
            assert_eq!(more, None, "a body is one line");
            if !data.is_empty() {
                let data = Some(serde_json::from_str(&data).unwrap());
                return Message { id: field("id").0, event: field("event").0, data };
            }
        }
    }
}

fn expected(position: u64, event: &Event) -> Message {
    Message {
        id: format!("{position}-{}", event.id),
        event: event.event_type.name().to_owned(),
        data: Some(serde_json::from_str(&event.body(position)).unwrap()),
    }
}

#[tokio::test]
async fn it_begins_now_and_tells_each_tenant_its_own_events_as_webhooks_have_them() {
    let world = World::with(config());
    commit(&world, "alice", EventType::StreamStarted, 1);
    let mut alice = Open::new(&world, ALICE, "", &[]).await;
    let mut bob = Open::new(&world, BOB, "", &[]).await;
    assert_eq!((alice.organization.as_str(), bob.organization.as_str()), ("org_alice", "org_bob"));
    assert!(alice.block().await.unwrap().starts_with("id: 1\n"), "where it begins, for a client that breaks off now");

    let of_bob = commit(&world, "bob", EventType::StreamStarted, 1);
    let of_alice = commit(&world, "alice", EventType::HighlightReady, 2);
    assert_eq!(alice.message().await, expected(2, &of_alice));
    assert_eq!(bob.message().await, expected(1, &of_bob));
    let third = commit(&world, "alice", EventType::StreamEnded, 3);
    let message = alice.message().await;
    assert_eq!(message, expected(3, &third));
    let data = message.data.unwrap();
    assert_eq!(data.as_object().unwrap().keys().collect::<Vec<_>>(), ["data", "timestamp", "type"]);
    assert_eq!(data["data"]["sequence"], 3);
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let world = World::with(config());
    let events: Vec<Event> = (1..=150).map(|n| commit(&world, "alice", EventType::StreamStarted, n)).collect();
    let mut all = Open::new(&world, ALICE, "?after=0", &[]).await;
    for (position, event) in (1..).zip(&events) {
        assert_eq!(all.message().await, expected(position, event));
    }
    let taken = expected(70, &events[69]).id;
    let mut later = Open::new(&world, ALICE, "", &[("last-event-id", &taken)]).await;
    assert_eq!(later.message().await, expected(71, &events[70]));
    // What a client reports goes before the address that it was given once.
    let mut both = Open::new(&world, ALICE, "?after=3", &[("last-event-id", &taken)]).await;
    assert_eq!(both.message().await, expected(71, &events[70]));
    let mut bare = Open::new(&world, ALICE, "?after=149", &[("last-event-id", "")]).await;
    assert_eq!(bare.message().await, expected(150, &events[149]));
    // Where a stream without events began is a place to come back to as well.
    let mut now = Open::new(&world, ALICE, "", &[]).await;
    let began = now.block().await.unwrap().lines().find_map(|line| line.strip_prefix("id: ").map(str::to_owned));
    drop(now);
    let meanwhile = commit(&world, "alice", EventType::StreamEnded, 151);
    let mut again = Open::new(&world, ALICE, "", &[("last-event-id", &began.unwrap())]).await;
    assert_eq!(again.message().await, expected(151, &meanwhile));
}

#[tokio::test]
async fn a_cursor_of_another_history_is_refused() {
    let world = World::with(config());
    let own = commit(&world, "alice", EventType::StreamStarted, 1);
    commit(&world, "bob", EventType::StreamStarted, 1);
    commit(&world, "bob", EventType::StreamEnded, 2);
    let foreign = format!("1-{}", own.id);
    for (key, cursor) in
        [(BOB, foreign.as_str()), (ALICE, "2"), (ALICE, "x"), (ALICE, "-1"), (ALICE, "+1"), (ALICE, "1e0")]
    {
        let path = format!("/v1/events?after={}", cursor.replace('+', "%2B"));
        // One that is accepted would be answered without an end.
        let refusals = async {
            world.get(&path, key).await.refused(400, "invalid_cursor");
            world.ask("GET", "/v1/events", key, &[("last-event-id", cursor)]).await.refused(400, "invalid_cursor");
        };
        tokio::time::timeout(LIMIT, refusals).await.expect("the cursor was accepted");
    }
    Open::new(&world, ALICE, &format!("?after={foreign}"), &[]).await;
}

#[tokio::test]
async fn types_are_chosen_and_unknown_ones_are_refused() {
    let world = World::with(config());
    let mut open = Open::new(&world, ALICE, "?types=highlight.ready,stream.ended", &[]).await;
    let ready = commit(&world, "alice", EventType::HighlightReady, 1);
    commit(&world, "alice", EventType::StreamStarted, 2);
    let ended = commit(&world, "alice", EventType::StreamEnded, 3);
    assert_eq!(open.message().await, expected(1, &ready));
    assert_eq!(open.message().await, expected(3, &ended));
    let again = commit(&world, "alice", EventType::HighlightReady, 4);
    assert_eq!(open.message().await, expected(4, &again));
    let detail = world.get("/v1/events?types=highlight.ready,goal", ALICE).await.refused(422, "unknown_event_type");
    assert!(detail.contains("'goal'"), "{detail}");
    world.get("/v1/events?type=goal", ALICE).await.refused(400, "invalid_parameter");
}

#[tokio::test]
async fn it_needs_a_key() {
    let world = World::with(config());
    world.get("/v1/events", "").await.refused(401, "unauthorized");
    world.get("/v1/events", "crest_sk_nobody").await.refused(401, "unauthorized");
}

#[tokio::test]
async fn streams_are_bounded_and_a_place_is_given_back() {
    let world = World::with(ApiConfig { max_event_streams: 3, max_organization_event_streams: 2, ..config() });
    let first = Open::new(&world, ALICE, "", &[]).await;
    let _second = Open::new(&world, ALICE, "", &[]).await;
    world.get("/v1/events", ALICE).await.refused(429, "too_many_event_streams");
    let third = Open::new(&world, BOB, "", &[]).await;
    world.get("/v1/events", OPERATOR).await.refused(429, "too_many_event_streams");
    // A request that is refused takes no place.
    drop(third);
    world.get("/v1/events?after=99", BOB).await.refused(400, "invalid_cursor");
    let _third = Open::new(&world, BOB, "", &[]).await;
    drop(first);
    let mut again = Open::new(&world, ALICE, "", &[]).await;
    let event = commit(&world, "alice", EventType::StreamStarted, 1);
    assert_eq!(again.message().await, expected(1, &event));
}

#[tokio::test]
async fn a_stream_is_found_again_after_nobody_listened_for_a_while() {
    let world = World::with(config());
    for n in 1..=3 {
        let mut open = Open::new(&world, ALICE, "", &[]).await;
        let event = commit(&world, "alice", EventType::StreamStarted, n);
        assert_eq!(open.message().await, expected(n, &event));
        drop(open);
        // Long enough for the task that looks for events to have ended.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test]
async fn silence_is_broken_by_comments_and_no_limit_on_time_cuts_the_stream() {
    let heartbeat = Span(Duration::from_millis(40));
    let request_timeout = Span(Duration::from_millis(100));
    let world = World::with(ApiConfig { event_heartbeat: heartbeat, request_timeout, ..config() });
    // Events that are not wanted are no sign of life for a client.
    let mut open = Open::new(&world, ALICE, "?types=highlight.ready", &[]).await;
    open.block().await.unwrap();
    for n in 1..=8 {
        commit(&world, "alice", EventType::StreamStarted, n);
        let block = open.block().await.unwrap();
        assert!(block.starts_with(':') && block.ends_with("\n\n"), "{block:?}");
    }
    let event = commit(&world, "alice", EventType::HighlightReady, 9);
    assert_eq!(open.message().await, expected(9, &event));
}

#[tokio::test]
async fn the_end_of_the_server_ends_it_though_there_is_more_to_send() {
    let world = World::with(config());
    (1..=200).for_each(|n| drop(commit(&world, "alice", EventType::StreamStarted, n)));
    let mut busy = Open::new(&world, ALICE, "?after=0", &[]).await;
    let mut idle = Open::new(&world, BOB, "", &[]).await;
    busy.message().await;
    idle.block().await.unwrap();
    world.shutdown.cancel();
    assert_eq!(busy.block().await, None);
    assert_eq!(idle.block().await, None);
}

#[tokio::test]
async fn a_reader_that_is_slow_holds_one_page() {
    let world = World::with(config());
    (1..=1000).for_each(|n| drop(commit(&world, "alice", EventType::StreamStarted, n)));
    let mut open = Open::new(&world, ALICE, "?after=0", &[]).await;
    open.message().await;
    let read = world.store.events_read.load(Ordering::Relaxed);
    assert!(read <= 64, "{read} events were read ahead for a reader that has taken one");
}

#[tokio::test]
async fn a_store_that_fails_ends_the_stream_and_the_next_request_says_so() {
    let world = World::with(config());
    let mut open = Open::new(&world, ALICE, "?after=0", &[]).await;
    open.block().await.unwrap();
    *world.store.failure.lock().unwrap() = Some(crest_core::Error::outside("away"));
    assert_eq!(open.block().await, None);
    world.get("/v1/events", ALICE).await.refused(503, "unavailable");
}
