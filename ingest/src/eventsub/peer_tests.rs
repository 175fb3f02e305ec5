//! Against a server that speaks as Twitch documents.

#![allow(clippy::unwrap_used)]

#[path = "../../tests/it/support/eventsub.rs"]
mod server;

use super::*;
use crest_core::units::Span;
use server::{CLIENT_ID, EventSubServer, TOKEN};

const SOON: Duration = Duration::from_secs(20);
/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);

struct Stage {
    server: EventSubServer,
    all: Arc<EventSub>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

async fn stage(channels: &[&str], most: usize, look_again: Duration) -> Stage {
    stage_with(channels, most, look_again, Duration::from_millis(100)).await
}

/// The same; what is refused is asked for again after `refused`.
async fn stage_with(channels: &[&str], most: usize, look_again: Duration, refused: Duration) -> Stage {
    let server = EventSubServer::start(channels, most).await;
    let (eventsub_url, api_url) = server.urls();
    let config = TwitchApiConfig {
        client_id: Some(CLIENT_ID.to_owned()),
        token: Some(format!("oauth:{TOKEN}")),
        api_url,
        eventsub_url,
        look_again: Span(look_again),
        longest_pause: Span(Duration::from_millis(50)),
        refused: Span(refused),
        ..TwitchApiConfig::default()
    };
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let all = EventSub::new(config, tasks.clone(), shutdown.clone()).unwrap();
    Stage { server, all, tasks, shutdown }
}

impl Stage {
    fn watch(&self, name: &str) -> Watching {
        self.all.watch(&format!("https://www.twitch.tv/{name}")).unwrap()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.tasks.close();
        tokio::time::timeout(SOON, self.tasks.wait()).await.unwrap();
    }
}

impl Watching {
    async fn until(&mut self, is: impl Fn(&Known) -> bool) {
        tokio::time::timeout(SOON, self.known.wait_for(|known| is(known))).await.unwrap().unwrap();
    }

    async fn woken(&mut self) {
        assert!(tokio::time::timeout(SOON, self.rest(NEVER)).await.unwrap());
    }
}

fn waits(known: &Known) -> bool {
    known.watched && known.live == Some(false)
}

#[tokio::test]
async fn a_channel_that_goes_live_wakes_its_stream_once() {
    let stage = stage(&["a", "b"], 10, NEVER).await;
    let (mut a, mut b) = (stage.watch("A"), stage.watch("b"));
    a.until(waits).await;
    b.until(waits).await;
    assert_eq!(a.is_away().unwrap(), "the channel a is not live; waiting for it to go live");
    // Somebody's record of an earlier one.
    stage.server.tell("a", "stream.online", "old", 700);
    stage.server.online("a", "first");
    a.woken().await;
    assert!(a.is_away().is_none() && b.is_away().is_some());
    a.begin();
    stage.server.online("a", "first");
    stage.server.until("offline is subscribed to", |server| server.subscribed().contains("a stream.offline")).await;
    stage.server.offline("a", "second");
    a.until(waits).await;
    assert_eq!(a.known.borrow().times, 1, "neither the old one nor the one that came twice");
    // Nobody waits for it any more.
    drop(b);
    stage.server.until("b is left", |server| server.subscribed().iter().all(|one| one.starts_with("a "))).await;
    drop(a);
    stage.server.until("the connection is closed", |server| server.connections() == (1, 0)).await;
    stage.end().await;
}

#[tokio::test]
async fn a_connection_is_made_anew_where_the_server_says_and_keeps_its_subscriptions() {
    let stage = stage(&["a"], 10, NEVER).await;
    let mut a = stage.watch("a");
    a.until(waits).await;
    stage.server.until("all is subscribed to", |server| server.subscribed().len() == 2).await;
    let before = stage.server.requests("subscribe");
    stage.server.reconnect();
    stage
        .server
        .until("the other connection alone", |server| server.connections().0 >= 2 && server.connections().1 == 1)
        .await;
    stage.server.online("a", "after");
    a.woken().await;
    assert_eq!(stage.server.requests("subscribe"), before);
    stage.end().await;
}

#[tokio::test]
async fn what_happened_while_the_server_was_silent_is_asked_about() {
    let stage = stage(&["a"], 10, NEVER).await;
    let mut a = stage.watch("a");
    a.until(waits).await;
    stage.server.set_silent(true);
    stage.server.online_unheard("a");
    // Nothing is heard for longer than announced: it connects again, and asks.
    a.woken().await;
    assert!(stage.server.connections().0 > 1);
    stage.server.set_silent(false);
    stage.end().await;
}

#[tokio::test]
async fn a_subscription_that_is_revoked_is_made_again_later() {
    let stage = stage(&["a"], 10, NEVER).await;
    let mut a = stage.watch("a");
    a.until(waits).await;
    stage.server.until("all is subscribed to", |server| server.subscribed().len() == 2).await;
    stage.server.revoke("a");
    a.until(|known| !known.watched).await;
    a.until(waits).await;
    stage.server.online("a", "again");
    a.woken().await;
    stage.end().await;
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_tried_slowly_until_it_is() {
    let stage = stage(&["a"], 10, NEVER).await;
    stage.server.refuse_token(true);
    let mut a = stage.watch("a");
    stage.server.until("two tries", |server| server.requests("users") >= 2).await;
    assert_eq!(*a.known.borrow(), Known::default(), "nothing is known: the source is tried with pauses");
    stage.server.refuse_token(false);
    a.until(waits).await;
    stage.end().await;
}

#[tokio::test]
async fn channels_beyond_what_twitch_allows_are_asked_about() {
    let stage = stage(&["a", "b"], 1, Duration::from_millis(100)).await;
    let (mut a, mut b) = (stage.watch("a"), stage.watch("b"));
    a.until(waits).await;
    b.until(|known| known.live == Some(false)).await;
    assert!(!b.known.borrow().watched);
    stage.server.online_unheard("b");
    b.woken().await;
    assert_eq!(stage.server.requests("subscribe"), 1, "what cannot be had is not asked for");
    assert_eq!(stage.all.watch("https://www.twitch.tv/videos/1").map(drop), None, "no channel");
    stage.end().await;
}

#[tokio::test]
async fn a_channel_that_was_heard_of_is_not_tried_though_twitch_does_not_tell_of_it() {
    let stage = stage(&["a", "b"], 1, NEVER).await;
    let (mut a, mut b) = (stage.watch("a"), stage.watch("b"));
    a.until(waits).await;
    b.until(|known| known.live == Some(false)).await;
    assert!(!b.known.borrow().watched && b.away_lately().is_some());
    stage.server.online("a", "on");
    tokio::select! {
        biased;
        woken = b.rest(Duration::ZERO) => panic!("it is tried: {woken}"),
        () = a.woken() => {}
    }
    stage.end().await;
}

#[tokio::test]
async fn a_connection_is_held_only_while_something_can_be_subscribed() {
    let stage = stage_with(&["a", "b"], 10, Duration::from_millis(50), NEVER).await;
    stage.server.set_unused(Duration::from_secs(3));
    stage.server.forbid("a");
    let mut a = stage.watch("a");
    stage.server.until("it is refused, and leaves", |server| server.connections() == (1, 0)).await;
    // It is asked about for longer than an unused connection would be left open; one that nobody knows as well.
    let mut nobody = stage.watch("nobody");
    let looks = stage.server.requests("streams");
    stage.server.until("further looks", |server| server.requests("streams") >= looks + 80).await;
    assert_eq!((stage.server.connections(), stage.server.closed_unused()), ((1, 0), 0));
    assert!(!a.known.borrow().watched && a.known.borrow().live == Some(false));
    // Something new can be: it connects again, and asks for nothing that was refused.
    let mut b = stage.watch("b");
    b.until(waits).await;
    assert_eq!((stage.server.connections(), stage.server.requests("subscribe stream.online id-a")), ((2, 1), 1));
    stage.server.online("b", "on");
    b.woken().await;
    // With it goes the connection, while the others wait on.
    drop(b);
    stage.server.until("the connection is closed", |server| server.connections() == (2, 0)).await;
    stage.server.online_unheard("a");
    a.until(|known| known.live == Some(true)).await;
    assert_eq!((stage.server.connections(), stage.server.closed_unused()), ((2, 0), 0));
    assert_eq!(*nobody.known.borrow_and_update(), Known::default());
    stage.end().await;
}

#[tokio::test]
async fn a_connection_that_is_closed_as_unused_is_made_again_and_used() {
    let stage = stage_with(&["a"], 10, NEVER, NEVER).await;
    stage.server.set_unused(Duration::from_millis(300));
    stage.server.set_mute(true);
    let mut a = stage.watch("a");
    stage.server.until("it is closed", |server| server.closed_unused() >= 1).await;
    stage.server.set_mute(false);
    a.until(waits).await;
    assert_eq!(stage.server.requests("users"), 1, "its id is known");
    stage.server.online("a", "on");
    a.woken().await;
    stage.end().await;
}

#[tokio::test]
async fn what_is_known_of_channels_outlasts_their_connection() {
    let stage = stage_with(&["a", "b"], 10, NEVER, NEVER).await;
    stage.server.forbid("b");
    let (mut a, mut b, _nobody) = (stage.watch("a"), stage.watch("b"), stage.watch("nobody"));
    a.until(waits).await;
    b.until(|known| known.live == Some(false)).await;
    let (users, refused) = (stage.server.requests("users"), stage.server.requests("subscribe stream.online id-b"));
    for connection in 2..5 {
        stage.server.online_unheard("b");
        stage.server.close_all();
        stage.server.until("another connection", |server| server.connections() == (connection, 1)).await;
        stage.server.until("a is watched", |server| server.subscribed().contains("a stream.online")).await;
    }
    b.woken().await;
    stage.server.online("a", "on");
    a.woken().await;
    assert_eq!((stage.server.requests("users"), refused), (users, 1), "names are not looked up again");
    assert_eq!(stage.server.requests("subscribe stream.online id-b"), 1, "what was refused is not asked for again");
    stage.end().await;
}

#[tokio::test]
async fn room_that_there_was_not_is_asked_for_again_on_a_later_connection() {
    let stage = stage(&["a"], 0, NEVER).await;
    stage.server.set_unused(Duration::from_secs(3));
    let mut a = stage.watch("a");
    stage.server.until("two tries", |server| server.requests("subscribe") >= 2).await;
    stage.server.set_room(1);
    a.until(waits).await;
    assert_eq!(stage.server.closed_unused(), 0, "it left by itself each time");
    stage.end().await;
}

#[test]
fn a_token_goes_with_its_application() {
    let new = |config| EventSub::new(config, TaskTracker::new(), CancellationToken::new());
    let half = TwitchApiConfig { token: Some("x".to_owned()), ..TwitchApiConfig::default() };
    assert!(new(half).err().unwrap().message.contains("twitch.client_id"));
    let none = new(TwitchApiConfig::default()).unwrap();
    assert!(none.watch("https://www.twitch.tv/a").is_none(), "without a token nothing changes");
    let wrong = TwitchApiConfig { eventsub_url: "https://x".to_owned(), ..TwitchApiConfig::default() };
    assert!(new(wrong).err().unwrap().message.contains("twitch.eventsub_url"));
}
