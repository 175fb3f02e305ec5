//! Streams whose chat is at YouTube: what a server that answers like YouTube's API tells ends up on the bus.

use crest_core::chat::{ChatKind, ChatSource};
use crest_core::stream::Stream;
use crest_core::units::Span;
use crest_core::{MediaTime, WallTime};
use crest_ingest::{ChatConfig, YoutubeConfig};
use serde_json::{Value, json};

use crate::support::youtube::{KEY, YoutubeServer, item};
use crate::support::{Rig, Settings, created, publisher};

fn with_chat(id: &str) -> Stream {
    Stream { chat: Some(ChatSource::Youtube { video_id: "aB3_-9xYz01".to_owned() }), ..created(id) }
}

/// As fast as YouTube allows.
fn settings(server: &YoutubeServer, daily_quota: u32) -> Settings {
    let youtube = YoutubeConfig {
        api_key: Some(KEY.to_owned()),
        base_url: server.url(),
        daily_quota,
        spread: Span::secs(0),
        longest_pause: Span::secs(1),
        ..YoutubeConfig::default()
    };
    Settings { chat: ChatConfig { youtube, ..ChatConfig::default() }, ..Settings::default() }
}

/// A live stream, and an instant of its session that is so many milliseconds after the start.
async fn live(server: &YoutubeServer, daily_quota: u32) -> (Rig, tokio::process::Child, impl Fn(i64) -> String) {
    let rig = Rig::start(settings(server, daily_quota), vec![with_chat("str_a")]).await;
    let feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until("a session", |rig| !rig.store.all_sessions().is_empty()).await;
    let start = rig.store.all_sessions()[0].started_at.0;
    (rig, feed, move |after| WallTime(start + after).rfc3339())
}

fn text(id: &str, at: &str, text: &str) -> Value {
    item(id, "textMessageEvent", at, json!({"textMessageDetails": {"messageText": text}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_paid_and_removed_reaches_the_bus_until_the_chat_ends() {
    let server = YoutubeServer::start().await;
    let (rig, _feed, at) = live(&server, 10_000).await;
    let paid = json!({"superChatDetails": {"amountMicros": "5000000", "currency": "USD", "userComment": "yes!"}});
    server.messages(&[
        text("m0", &at(-5_000), "before the session"),
        text("m1", &at(1_500), "that goal"),
        item("m2", "superChatEvent", &at(1_600), paid),
        item("m3", "newSponsorEvent", &at(1_700), json!({})),
        json!({"id": "broken"}),
    ]);
    rig.until("messages", |rig| rig.bus.chat().len() >= 3).await;
    let deleted = json!({"messageDeletedDetails": {"deletedMessageId": "m1"}});
    let banned = json!({"userBannedDetails": {"bannedUserDetails": {"channelId": "UC1"}, "banType": "permanent"}});
    // YouTube lists its past again where a token is not known any more.
    server.messages(&[text("m1", &at(1_500), "that goal")]);
    server.messages(&[item("d1", "messageDeletedEvent", &at(1_800), deleted)]);
    server.messages(&[
        item("d2", "userBannedEvent", &at(1_900), banned),
        item("e", "chatEndedEvent", &at(2_000), json!({})),
    ]);
    rig.until("removals", |rig| rig.bus.chat().len() >= 7).await;
    let chat = rig.bus.chat();
    let shown: Vec<_> = chat.iter().map(|m| (m.kind, m.id.as_deref().unwrap_or_default(), m.text.as_str())).collect();
    assert_eq!(
        shown,
        [
            (ChatKind::Message, "m1", "that goal"),
            (ChatKind::Bits, "m2", "yes!"),
            (ChatKind::Sub, "m3", ""),
            (ChatKind::Message, "m1", "that goal"),
            (ChatKind::Deletion, "m1", ""),
            (ChatKind::Deletion, "m2", ""),
            (ChatKind::Deletion, "m3", ""),
        ]
    );
    assert_eq!((chat[0].at, chat[0].user.as_str(), chat[1].bits), (MediaTime::from_millis(1_500), "@ana", Some(500)));
    let asked = server.asked();
    assert!(!asked[0].contains("pageToken") && asked[1].contains("pageToken=page-1"), "{asked:#?}");
    // The chat is over. A further look would have come within 100 ms; some seconds of media take longer.
    let video = rig.bus.video().len();
    rig.until("media of some seconds", |rig| rig.bus.video().len() >= video + 4).await;
    assert_eq!(server.asked().len(), asked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_passes_is_tried_again() {
    let server = YoutubeServer::start().await;
    server.refuses(403, "rateLimitExceeded");
    server.refuses(503, "backendError");
    let (rig, _feed, at) = live(&server, 10_000).await;
    server.messages(&[text("m1", &at(10), "at last")]);
    rig.until("a message", |rig| !rig.bus.chat().is_empty()).await;
    assert_eq!(rig.bus.chat()[0].text, "at last");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_is_never_exceeded_and_its_end_is_taken_at_its_word() {
    // One look at the video, one for a stream, three at the messages.
    let server = YoutubeServer::start().await;
    let (rig, _feed, _) = live(&server, 21).await;
    rig.until("three looks", |_| server.asked().len() >= 3).await;
    // Another stream, of which YouTube says after its first look that nothing is left.
    let strict = YoutubeServer::start().await;
    strict.refuses(403, "quotaExceeded");
    let (mut other, _feed, at) = live(&strict, 10_000).await;
    other.until("a look", |_| !strict.asked().is_empty()).await;
    strict.messages(&[text("m1", &at(10), "not today")]);
    // A further look would have come within 100 ms; there is time for many until everything has stopped.
    other.until("media of some seconds", |rig| rig.bus.video().len() >= 6).await;
    other.stop().await;
    assert_eq!((server.asked().len(), strict.asked().len()), (3, 1));
    assert!(other.bus.chat().is_empty() && rig.bus.chat().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_arrives_over_one_stream_until_the_chat_ends() {
    let server = YoutubeServer::start().await;
    server.streams();
    let (rig, _feed, at) = live(&server, 10_000).await;
    let paid = json!({"superChatDetails": {"amountMicros": "5000000", "currency": "USD", "userComment": "yes!"}});
    server.stream(json!({"items": [text("m0", &at(-5_000), "before"), text("m1", &at(1_500), "that \"}]\" goal")]}));
    rig.until("a message", |rig| rig.bus.chat().len() == 1).await;
    server.stream(json!({"items": [item("m2", "superChatEvent", &at(1_600), paid), json!({"id": "broken"})]}));
    rig.until("a further message", |rig| rig.bus.chat().len() == 2).await;
    server.stream(json!({"offlineAt": at(3_000), "items": [text("m3", &at(2_500), "bye")]}));
    rig.until("the last message", |rig| rig.bus.chat().len() == 3).await;
    let chat = rig.bus.chat();
    let shown: Vec<_> = chat.iter().map(|m| (m.kind, m.id.as_deref().unwrap_or_default(), m.text.as_str())).collect();
    assert_eq!(
        shown,
        [
            (ChatKind::Message, "m1", "that \"}]\" goal"),
            (ChatKind::Bits, "m2", "yes!"),
            (ChatKind::Message, "m3", "bye"),
        ]
    );
    // The chat is over. A further stream would have been opened within a second.
    let video = rig.bus.video().len();
    rig.until("media of some seconds", |rig| rig.bus.video().len() >= video + 4).await;
    assert_eq!((server.opened().len(), server.asked().len()), (1, 0));
    assert!(!server.opened()[0].contains("pageToken"), "{:?}", server.opened());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_goes_on_where_it_was() {
    let server = YoutubeServer::start().await;
    server.streams();
    let (rig, _feed, at) = live(&server, 10_000).await;
    let page = |id: &str| json!({"items": [text(id, &at(10), id)]});
    server.stream(page("m1"));
    rig.until("a message", |rig| rig.bus.chat().len() == 1).await;
    server.cut();
    server.stream(page("m2"));
    server.stream(page("m3"));
    rig.until("what was written meanwhile", |rig| rig.bus.chat().len() == 3).await;
    server.tear();
    server.stream(page("m4"));
    rig.until("the page that was torn", |rig| rig.bus.chat().len() >= 4).await;
    // An error within a stream is one of its connection.
    server.stream(json!({"error": {"code": 503, "message": "try again", "errors": [{"reason": "backendError"}]}}));
    rig.until("it is opened again", |_| server.opened().len() >= 4).await;
    let ids: Vec<_> = rig.bus.chat().into_iter().map(|message| message.id.unwrap_or_default()).collect();
    assert_eq!(ids, ["m1", "m2", "m3", "m4"], "nothing is lost, nothing is told twice");
    let (opened, since) = (server.opened(), |page: &str| format!("pageToken={page}&"));
    assert!(opened[1].contains(&since("page-1")) && opened[2].contains(&since("page-3")), "{opened:#?}");
    assert!(opened[3].contains(&since("page-4")) && server.asked().is_empty(), "{opened:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_opened_again_and_misses_nothing() {
    let server = YoutubeServer::start().await;
    server.streams();
    let mut settings = settings(&server, 10_000);
    settings.chat.youtube.silence = Span::secs(1);
    let rig = Rig::start(settings, vec![with_chat("str_a")]).await;
    let _feed = publisher(&rig.url("key-of-str_a"), 60, &[]);
    rig.until("three streams", |_| server.opened().len() >= 3).await;
    let at = WallTime(rig.store.all_sessions()[0].started_at.0 + 10).rfc3339();
    server.stream(json!({"items": [text("m1", &at, "at last")]}));
    rig.until("a message", |rig| !rig.bus.chat().is_empty()).await;
    assert_eq!((rig.bus.chat().len(), server.asked().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_stream_the_chat_is_looked_at_instead() {
    for (status, answer) in [
        (404, json!({"error": {"code": 404, "message": "Method not found."}})),
        (501, json!("not implemented")),
        (200, json!({"items": [], "nextPageToken": "x"})),
    ] {
        let server = YoutubeServer::start().await;
        server.streams();
        server.answers_stream(status, answer);
        let (rig, _feed, at) = live(&server, 10_000).await;
        server.messages(&[text("m1", &at(10), "looked at")]);
        rig.until("a message", |rig| !rig.bus.chat().is_empty()).await;
        rig.until("further looks", |_| server.asked().len() >= 4).await;
        assert_eq!(server.opened().len(), 1, "status {status}: it is not tried again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_keep_to_the_quota_too() {
    // One look at the video, two streams. Each ends at once.
    let server = YoutubeServer::start().await;
    server.stream(json!({"items": []}));
    server.streams_briefly();
    let (rig, _feed, _) = live(&server, 15).await;
    rig.until("two streams", |_| server.opened().len() >= 2).await;
    // Another, which may not be opened yet; and then YouTube says that nothing is left.
    let strict = YoutubeServer::start().await;
    strict.streams();
    strict.refuses_stream(403, "rateLimitExceeded");
    strict.refuses_stream(403, "quotaExceeded");
    let (other, _feed, _) = live(&strict, 10_000).await;
    other.until("it is tried again", |_| strict.opened().len() >= 2).await;
    // A further stream would have been opened within a second.
    let video = other.bus.video().len();
    other.until("media of some seconds", |rig| rig.bus.video().len() >= video + 4).await;
    assert_eq!((server.opened().len(), strict.opened().len()), (2, 2));
    assert!(server.asked().is_empty() && strict.asked().is_empty());
}
