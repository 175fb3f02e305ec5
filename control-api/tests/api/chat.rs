//! Chat and marks reach the bus at their place, or are refused with the place of the fault.

use crest_core::chat::{ChatKind, ChatMessage, Mark};
use crest_core::stream::StreamState;
use crest_core::topic::Topic;
use crest_core::{Error, MediaTime, Session, StreamId, WallTime};
use serde_json::{Value, json};

use crate::world::{ALICE, World, organization};

/// A stream that has been live for a minute, in its second session.
async fn live() -> (World, StreamId, WallTime) {
    let world = World::new();
    let id = world.stream(ALICE).await;
    let now = WallTime(jiff::Timestamp::now().as_millisecond());
    world.go_live(&id, 1, now.plus_millis(-3_600_000));
    let started = now.plus_millis(-60_000);
    world.go_live(&id, 2, started);
    (world, id, started)
}

fn sent(world: &World) -> Vec<ChatMessage> {
    let records = world.bus.records.lock().unwrap();
    let chat = records.iter().filter(|(topic, _)| *topic == Topic::ChatMessages);
    chat.map(|(_, record)| ChatMessage::decode(&record.payload).unwrap()).collect()
}

#[tokio::test]
async fn messages_land_on_the_current_session() {
    let (world, id, started) = live().await;
    let path = format!("/v1/streams/{id}/chat");
    let at = started.plus_millis(12_345).rfc3339();
    let body = json!({"messages": [
        {"at": at, "user": "ann", "text": "GOAL 😱"},
        {"t": 7.25, "user": "bo", "text": "", "kind": "bits", "bits": 100, "emotes": ["Kappa"]},
        {"t": -1.0, "user": "cy", "text": "early"},
    ]});
    let answer = world.post(&path, ALICE, body).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (202, json!({"accepted": 3})));
    let messages = sent(&world);
    let places: Vec<_> = messages.iter().map(|m| (m.session, m.at)).collect();
    let at = MediaTime::from_millis;
    assert_eq!(places, [12_345, 7250, 0].map(|ms| (Session::new(2), at(ms))));
    assert_eq!(messages[0].organization_id, organization("alice"));
    assert_eq!((messages[0].user.as_str(), messages[0].text.as_str()), ("ann", "GOAL 😱"));
    assert_eq!((messages[1].kind, messages[1].bits), (ChatKind::Bits, Some(100)));
    assert_eq!(messages[1].emotes, ["Kappa"]);
    assert!(world.bus.records.lock().unwrap().iter().all(|(_, record)| record.key == id));
    let empty = world.post(&path, ALICE, json!({"messages": []})).await;
    assert_eq!((empty.status.as_u16(), empty.json()), (202, json!({"accepted": 0})));
}

#[tokio::test]
async fn one_bad_message_refuses_the_batch_and_is_named() {
    let (world, id, started) = live().await;
    let path = format!("/v1/streams/{id}/chat");
    let before = started.plus_millis(-60_000).rfc3339();
    for bad in [
        json!({"t": -6.0, "user": "a", "text": ""}),
        json!({"t": 1e12, "user": "a", "text": ""}),
        json!({"at": before, "user": "a", "text": ""}),
        json!({"at": "noon", "user": "a", "text": ""}),
        json!({"at": before, "t": 1.0, "user": "a", "text": ""}),
        json!({"user": "a", "text": ""}),
        json!({"t": 1.0, "user": "", "text": ""}),
        json!({"t": 1.0, "user": "a", "text": "x".repeat(2001)}),
        json!({"t": 1.0, "user": "a", "text": "", "emotes": ["two words"]}),
    ] {
        let body = json!({"messages": [{"t": 1.0, "user": "a", "text": "fine"}, bad]});
        let detail = world.post(&path, ALICE, body).await.refused(422, "invalid_message");
        assert!(detail.starts_with("messages[1]"), "{detail}");
    }
    let unknown = json!({"messages": [{"t": 1.0, "user": "a", "text": "", "mood": "good"}]});
    let detail = world.post(&path, ALICE, unknown).await.refused(422, "invalid_body");
    assert!(detail.contains("messages[0]") && detail.contains("mood"), "{detail}");
    let many: Vec<Value> = (0..1001).map(|_| json!({"t": 1.0, "user": "a", "text": ""})).collect();
    world.post(&path, ALICE, json!({"messages": many})).await.refused(422, "too_many_messages");
    assert!(sent(&world).is_empty());
}

#[tokio::test]
async fn chat_and_marks_need_a_stream_that_runs() {
    let world = World::new();
    let id = world.stream(ALICE).await;
    let message = json!({"messages": [{"t": 1.0, "user": "a", "text": "hi"}]});
    let (chat, markers) = (format!("/v1/streams/{id}/chat"), format!("/v1/streams/{id}/markers"));
    world.post(&chat, ALICE, message.clone()).await.refused(409, "stream_not_live");
    world.ask("POST", &markers, ALICE, &[]).await.refused(409, "stream_not_live");
    world.go_live(&id, 1, WallTime(jiff::Timestamp::now().as_millisecond()));
    world.set_state(&id, StreamState::Interrupted);
    assert_eq!(world.post(&chat, ALICE, message.clone()).await.status, 202);
    for over in [StreamState::Ended, StreamState::Failed] {
        world.set_state(&id, over);
        world.post(&chat, ALICE, message.clone()).await.refused(409, "stream_over");
        world.ask("POST", &markers, ALICE, &[]).await.refused(409, "stream_over");
    }
}

#[tokio::test]
async fn nothing_is_accepted_that_the_bus_did_not_take() {
    let (world, id, _) = live().await;
    *world.bus.failure.lock().unwrap() = Some(Error::outside("the disk is full"));
    let message = json!({"messages": [{"t": 1.0, "user": "a", "text": "hi"}]});
    world.post(&format!("/v1/streams/{id}/chat"), ALICE, message).await.refused(503, "unavailable");
    world.ask("POST", &format!("/v1/streams/{id}/markers"), ALICE, &[]).await.refused(503, "unavailable");
}

#[tokio::test]
async fn a_mark_is_now_or_where_it_is_put() {
    let (world, id, started) = live().await;
    let path = format!("/v1/streams/{id}/markers");
    let now = world.ask("POST", &path, ALICE, &[]).await;
    assert_eq!(now.status, 202);
    assert!(now.json()["t"].as_f64().unwrap() >= 60.0);
    let put = world.post(&path, ALICE, json!({"t": 30.5, "label": "penalty"})).await.json();
    assert_eq!((&put["t"], &put["label"], &put["session"]), (&json!(30.5), &json!("penalty"), &json!(2)));
    assert_eq!(put["at"], started.plus_millis(30_500).rfc3339());
    world.post(&path, ALICE, json!({"t": -30.0})).await.refused(422, "invalid_time");
    world.post(&path, ALICE, json!({"label": ""})).await.refused(422, "invalid_request");
    world.post_text(&path, ALICE, "text/plain", "t=1".into()).await.refused(415, "unsupported_media_type");
    let records = world.bus.records.lock().unwrap();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|(topic, record)| *topic == Topic::Marks && record.key == id));
    let mark = Mark::decode(&records[1].1.payload).unwrap();
    assert_eq!((mark.at, mark.label.as_deref()), (MediaTime::from_millis(30_500), Some("penalty")));
}
