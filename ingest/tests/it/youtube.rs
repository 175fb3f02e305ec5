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
    // One look at the video, three at the messages.
    let server = YoutubeServer::start().await;
    let (rig, _feed, _) = live(&server, 16).await;
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
