//! Streams whose chat is at Twitch: what a server that speaks like Twitch's tells ends up on the bus.

use crest_core::chat::{ChatKind, ChatMessage, ChatSource};
use crest_core::stream::Stream;
use crest_core::units::Span;
use crest_core::{MediaTime, StreamId};
use crest_ingest::{ChatConfig, TwitchConfig};

use crate::support::twitch::TwitchServer;
use crate::support::{Rig, Settings, created, publisher};

fn with_chat(id: &str, channel: &str) -> Stream {
    Stream { chat: Some(ChatSource::Twitch { channel: channel.to_owned() }), ..created(id) }
}

fn settings(server: &TwitchServer) -> Settings {
    let twitch = TwitchConfig { server: server.url(), longest_pause: Span::secs(1), ..TwitchConfig::default() };
    Settings { chat: ChatConfig { twitch, ..ChatConfig::default() }, ..Settings::default() }
}

/// Wall-clock time at the start of a stream's session, in milliseconds.
fn start(rig: &Rig, id: &str) -> i64 {
    let rows = rig.store.all_sessions();
    rows.iter().rfind(|row| row.stream_id == StreamId::from_raw(id)).unwrap().started_at.0
}

impl Rig {
    async fn chat(&self, count: usize) -> Vec<ChatMessage> {
        self.until("chat on the bus", |rig| rig.bus.chat().len() >= count).await;
        self.bus.chat()
    }
}

fn shown(messages: &[ChatMessage]) -> Vec<(ChatKind, &str, &str, &str)> {
    messages.iter().map(|m| (m.kind, m.id.as_deref().unwrap_or_default(), m.user.as_str(), m.text.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_reaches_the_bus_at_its_time_and_what_is_removed_as_well() {
    let server = TwitchServer::start(&["show"]).await;
    let mut rig = Rig::start(settings(&server), vec![with_chat("str_a", "show")]).await;
    let _feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    server.joined("show").await;
    let start = start(&rig, "str_a");
    server.message("show", "m0", "ana", start - 1, "before the session");
    server.message("show", "m1", "ana", start + 1_234, "that goal");
    let tags = format!("id=m2;bits=250;emotes=25:0-4;tmi-sent-ts={}", start + 2_000);
    server.say("show", &format!("@{tags} :ben!ben@ben.tmi.twitch.tv PRIVMSG #show :Kappa cheer250"));
    for (id, notice) in [("m3", "resub"), ("m4", "raid"), ("m5", "unraid")] {
        let tags = format!("id={id};login=cleo;msg-id={notice};tmi-sent-ts={}", start + 2_500);
        server.say("show", &format!("@{tags} :tmi.twitch.tv USERNOTICE #show"));
    }
    server.message("show", "m6", "ben", start + 2_600, "something else");
    let at = start + 2_700;
    server
        .say("show", &format!("@login=ana;target-msg-id=m1;tmi-sent-ts={at} :tmi.twitch.tv CLEARMSG #show :that goal"));
    server
        .say("show", &format!("@ban-duration=1;target-user-id=2;tmi-sent-ts={at} :tmi.twitch.tv CLEARCHAT #show :ben"));

    let chat = rig.chat(8).await;
    assert_eq!(
        shown(&chat),
        [
            (ChatKind::Message, "m1", "ana", "that goal"),
            (ChatKind::Bits, "m2", "ben", "Kappa cheer250"),
            (ChatKind::Sub, "m3", "cleo", ""),
            (ChatKind::Raid, "m4", "cleo", ""),
            (ChatKind::Message, "m6", "ben", "something else"),
            (ChatKind::Deletion, "m1", "ana", ""),
            (ChatKind::Deletion, "m2", "ben", ""),
            (ChatKind::Deletion, "m6", "ben", ""),
        ]
    );
    assert_eq!((chat[0].at, chat[1].bits), (MediaTime::from_millis(1_234), Some(250)));
    assert_eq!(chat[1].emotes, ["Kappa"]);
    assert!(chat.iter().all(|message| message.session.number() == 1));
    rig.stop().await;
    server.left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_comes_back_and_a_repeat_keeps_its_id() {
    let server = TwitchServer::start(&["show"]).await;
    let rig = Rig::start(settings(&server), vec![with_chat("str_a", "show")]).await;
    let _feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    server.joined("show").await;
    let at = start(&rig, "str_a") + 1000;
    server.message("show", "m1", "ana", at, "one");
    rig.chat(1).await;
    for (count, lose) in [TwitchServer::drop_all, |server: &TwitchServer| server.tell(":tmi.twitch.tv RECONNECT")]
        .into_iter()
        .enumerate()
    {
        let before = server.connections().1;
        lose(&server);
        rig.until("another connection", |_| server.connections().1 > before).await;
        server.joined("show").await;
        server.message("show", "m1", "ana", at, "one");
        server.message("show", &format!("n{count}"), "ana", at, "two");
        let chat = rig.chat(3 + 2 * count).await;
        let repeats = chat.iter().filter(|message| message.id.as_deref() == Some("m1")).count();
        assert_eq!((repeats, chat.len()), (2 + count, 3 + 2 * count), "{chat:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_outlasts_a_bus_that_is_away() {
    let server = TwitchServer::start(&["show"]).await;
    let rig = Rig::start(settings(&server), vec![with_chat("str_a", "show")]).await;
    let _feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    server.joined("show").await;
    rig.bus.refuse_chat(2);
    let at = start(&rig, "str_a") + 1;
    (0..5_000).for_each(|n| server.message("show", &format!("m{n}"), "ana", at, "again"));
    let chat = rig.chat(5_000).await;
    let in_order = chat.iter().enumerate().all(|(n, message)| message.id == Some(format!("m{n}")));
    assert!(in_order && chat.len() == 5_000, "{} messages", chat.len());
    assert_eq!(server.connections(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_session_has_the_chat_from_its_start_on_the_same_connection() {
    let server = TwitchServer::start(&["show"]).await;
    let rig = Rig::start(settings(&server), vec![with_chat("str_a", "show")]).await;
    let first = publisher(&rig.url("key-of-str_a"), 60, &[]);
    server.joined("show").await;
    let at = start(&rig, "str_a") + 1;
    server.message("show", "m1", "ana", at, "one");
    rig.chat(1).await;
    drop(first);
    rig.until_event("stream.interrupted", 1).await;
    // While nobody publishes, the session and its chat go on.
    server.message("show", "m2", "ana", at + 1, "two");
    rig.chat(2).await;
    let _second = publisher(&rig.url("key-of-str_a"), 60, &["-s", "160x90"]);
    let second = |rig: &Rig| rig.bus.video().iter().any(|batch| batch.session.number() == 2);
    rig.until("media of the next session", second).await;
    let again = start(&rig, "str_a");
    server.message("show", "m3", "ana", again - 1, "too early");
    server.message("show", "m4", "ana", again + 7, "four");
    let chat = rig.chat(3).await;
    let placed: Vec<_> = chat.iter().map(|m| (m.session.number(), m.at.nanos() / 1_000_000, m.text.as_str())).collect();
    assert_eq!(placed, [(1, 1, "one"), (1, 2, "two"), (2, 7, "four")]);
    assert_eq!(server.connections(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_share_a_connection_and_leave_it_one_by_one() {
    let server = TwitchServer::start(&["one", "two"]).await;
    let streams = vec![with_chat("str_a", "one"), with_chat("str_b", "two"), with_chat("str_c", "two")];
    let rig = Rig::start(settings(&server), streams).await;
    let _feeds = ["a", "b", "c"].map(|name| publisher(&rig.url(&format!("key-of-str_{name}")), 60, &[]));
    rig.until_event("stream.started", 3).await;
    server.joined("one").await;
    server.joined("two").await;
    assert_eq!(server.connections(), (1, 1));
    let now = start(&rig, "str_a").max(start(&rig, "str_b")).max(start(&rig, "str_c")) + 500;
    server.message("one", "m1", "ana", now, "to a");
    server.message("two", "m2", "ana", now, "to b and c");
    let keys = |rig: &Rig| {
        let mut keys: Vec<_> = rig.bus.chat_of().into_iter().map(|(id, m)| (id, m.text)).collect();
        keys.sort();
        keys
    };
    rig.chat(3).await;
    let expected = [("str_a", "to a"), ("str_b", "to b and c"), ("str_c", "to b and c")];
    assert_eq!(keys(&rig), expected.map(|(id, text)| (id.to_owned(), text.to_owned())));

    rig.ingest().control().stop(&rig.store.get("str_b")).await.unwrap();
    rig.ingest().control().stop(&rig.store.get("str_a")).await.unwrap();
    server.received("PART #one").await;
    server.message("two", "m3", "ana", now, "to c alone");
    rig.chat(4).await;
    assert!(!server.lines().contains(&"PART #two".to_owned()), "{:?}", server.lines());
    rig.ingest().control().stop(&rig.store.get("str_c")).await.unwrap();
    server.left().await;
    assert_eq!(server.connections(), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_not_there_disturbs_nobody_and_is_asked_for_again() {
    let server = TwitchServer::start(&["show"]).await;
    let mut settings = settings(&server);
    settings.chat.twitch.refused = Span::secs(1);
    let rig = Rig::start(settings, vec![with_chat("str_a", "nobody"), with_chat("str_b", "show")]).await;
    let _feeds = ["a", "b"].map(|name| publisher(&rig.url(&format!("key-of-str_{name}")), 60, &[]));
    server.joined("show").await;
    let joins = |server: &TwitchServer| server.lines().iter().filter(|line| *line == "JOIN #nobody").count();
    rig.until("asking again", |_| joins(&server) >= 2).await;
    server.message("show", "m1", "ana", start(&rig, "str_b") + 1, "here");
    assert_eq!(rig.chat(1).await[0].text, "here");
    assert_eq!(server.connections(), (1, 1), "the refusal did not cost the connection");
}
