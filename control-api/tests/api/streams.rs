//! Streams from creation to the end.

use crest_control_api::ApiConfig;
use crest_core::WallTime;
use crest_core::space::Room;
use crest_core::stream::{ForwardState, ForwardStatus, StreamState};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

use crate::world::{ALICE, BOB, World};

#[tokio::test]
async fn a_stream_says_where_to_publish_to() {
    let world = World::new();
    let created = world.post("/v1/streams", ALICE, json!({"name": " finals ", "source": {"kind": "rtmp"}})).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("cache-control"), "no-store");
    let stream = created.json();
    let id = stream["id"].as_str().unwrap();
    assert_eq!(created.header("location"), format!("/v1/streams/{id}"));
    assert_eq!(stream["name"], "finals");
    assert_eq!(stream["state"], "created");
    assert_eq!(stream["source"], json!({"kind": "rtmp", "url": null, "audio_track": null}));
    assert_eq!(stream["url"], format!("https://crest.test/v1/streams/{id}"));
    let ingest = &stream["ingest"];
    assert_eq!(ingest["rtmp_url"], "rtmp://crest.test:1935/live");
    assert_eq!((&ingest["whip_url"], &ingest["srt_url"]), (&Value::Null, &Value::Null));
    let key = ingest["stream_key"].as_str().unwrap();
    assert!(key.strip_prefix("sk_live_").is_some_and(|secret| secret.len() >= 28), "{key}");
    assert!(WallTime::parse(stream["created_at"].as_str().unwrap()).is_some());
    assert_eq!(world.get(&format!("/v1/streams/{id}"), ALICE).await.json(), stream);
    assert_eq!(world.get("/v1/streams", ALICE).await.json()["data"], json!([stream]));
}

#[tokio::test]
async fn what_this_version_cannot_do_is_refused_by_name() {
    let world = World::new();
    for kind in ["rtmp", "srt", "whip"] {
        let body = json!({"name": "a", "source": {"kind": kind, "url": "https://a.test/"}});
        let detail = world.post("/v1/streams", ALICE, body).await.refused(422, "invalid_request");
        assert!(detail.contains("source.url"), "{detail}");
    }
    for (field, value) in [("dimension_set_id", json!("ds_1"))] {
        let mut body = json!({"name": "a", "source": {"kind": "rtmp"}});
        body[field] = value;
        let detail = world.post("/v1/streams", ALICE, body.clone()).await.refused(422, "not_supported_yet");
        assert!(detail.contains(field), "{detail}");
        body[field] = Value::Null;
        assert_eq!(world.post("/v1/streams", ALICE, body).await.status, 201);
    }
    for name in ["", "  ", "a\u{0}b", &"x".repeat(201)] {
        let body = json!({"name": name, "source": {"kind": "rtmp"}});
        world.post("/v1/streams", ALICE, body).await.refused(422, "invalid_request");
    }
}

#[tokio::test]
async fn a_chat_is_taken_as_name_or_address_and_shown_normalised() {
    let world = World::new();
    let new = |chat: Value| json!({"name": "a", "source": {"kind": "rtmp"}, "chat": chat});
    for (chat, shown) in [
        (json!({"platform": "twitch", "channel": "Some_Show"}), json!({"platform": "twitch", "channel": "some_show"})),
        (
            json!({"platform": "twitch", "channel": "https://www.twitch.tv/some_show"}),
            json!({"platform": "twitch", "channel": "some_show"}),
        ),
        (
            json!({"platform": "youtube", "video_id": "https://www.youtube.com/watch?v=aB3_-9xYz01"}),
            json!({"platform": "youtube", "video_id": "aB3_-9xYz01"}),
        ),
        (
            json!({"platform": "youtube", "video_id": "https://youtu.be/aB3_-9xYz01"}),
            json!({"platform": "youtube", "video_id": "aB3_-9xYz01"}),
        ),
        (Value::Null, Value::Null),
    ] {
        let created = world.post("/v1/streams", ALICE, new(chat)).await;
        assert_eq!((created.status.as_u16(), &created.json()["chat"]), (201, &shown));
        let path = format!("/v1/streams/{}", created.json()["id"].as_str().unwrap());
        assert_eq!(world.get(&path, ALICE).await.json()["chat"], shown);
    }
    for (chat, named) in [
        (json!({"platform": "twitch", "channel": "not a name"}), "chat.channel"),
        (json!({"platform": "youtube", "video_id": "short"}), "chat.video_id"),
    ] {
        let detail = world.post("/v1/streams", ALICE, new(chat)).await.refused(422, "invalid_request");
        assert!(detail.contains(named), "{detail}");
    }
    for chat in [json!({}), json!({"platform": "kick", "channel": "a"}), json!({"platform": "twitch", "video_id": "a"})]
    {
        world.post("/v1/streams", ALICE, new(chat)).await.refused(422, "invalid_body");
    }
}

#[tokio::test]
async fn an_organization_pulls_so_many_streams_at_a_time() {
    let world = World::with(ApiConfig { max_pulled_streams: 1, ..ApiConfig::default() });
    let pulled = json!({"name": "a", "source": {"kind": "url", "url": "https://a.test/live.m3u8"}});
    let first = world.post("/v1/streams", ALICE, pulled.clone()).await;
    assert_eq!(first.status, 201);
    let detail = world.post("/v1/streams", ALICE, pulled.clone()).await.refused(409, "limit_reached");
    assert!(detail.contains("at most 1"), "{detail}");
    let pushed = json!({"name": "a", "source": {"kind": "rtmp"}});
    assert_eq!(world.post("/v1/streams", ALICE, pushed).await.status, 201);
    assert_eq!(world.post("/v1/streams", BOB, pulled).await.status, 201, "another's do not count");
}

#[tokio::test]
async fn without_a_key_for_youtube_its_chats_are_refused_with_what_to_set() {
    let world = World::without_youtube();
    let new = |chat: Value| json!({"name": "a", "source": {"kind": "rtmp"}, "chat": chat});
    let youtube = new(json!({"platform": "youtube", "video_id": "aB3_-9xYz01"}));
    let detail = world.post("/v1/streams", ALICE, youtube).await.refused(422, "chat_not_configured");
    assert!(detail.contains("chat.youtube.api_key"), "{detail}");
    let twitch = new(json!({"platform": "twitch", "channel": "show"}));
    assert_eq!(world.post("/v1/streams", ALICE, twitch).await.status, 201);
}

#[tokio::test]
async fn stopping_ends_a_stream_and_can_be_repeated() {
    let world = World::new();
    let id = world.stream(ALICE).await;
    for _ in 0..2 {
        let stopped = world.ask("POST", &format!("/v1/streams/{id}/stop"), ALICE, &[]).await;
        assert_eq!((stopped.status.as_u16(), &stopped.json()["state"]), (200, &json!("ended")));
    }
}

#[tokio::test]
async fn without_room_no_stream_is_created_and_readiness_says_why() {
    let world = World::new();
    let new = json!({"name": "a", "source": {"kind": "rtmp"}});
    assert_eq!(world.get("/readyz", "").await.json(), json!({"status": "ready", "storage": "ample"}));
    for (room, name) in [(Room::Short, "short"), (Room::Exhausted, "exhausted")] {
        *world.feeds.room.lock().unwrap() = room;
        let answer = world.post("/v1/streams", ALICE, new.clone()).await;
        assert_eq!(answer.header("retry-after"), "30");
        answer.refused(507, "storage_full");
        // Running streams go on: nobody may take this server for dead.
        assert_eq!(world.get("/readyz", "").await.json(), json!({"status": "ready", "storage": name}));
    }
    assert_eq!(world.get("/v1/streams", ALICE).await.json()["data"], json!([]));
    *world.feeds.room.lock().unwrap() = Room::Ample;
    assert_eq!(world.post("/v1/streams", ALICE, new).await.status, 201);
}

#[tokio::test]
async fn while_nobody_takes_feeds_no_stream_is_created_and_those_that_are_there_are_shown() {
    let world = World::new();
    let id = world.stream(ALICE).await;
    world.feeds.deserted.store(true, Ordering::Release);
    let answer = world.post("/v1/streams", ALICE, json!({"name": "a", "source": {"kind": "rtmp"}})).await;
    assert_eq!(answer.header("retry-after"), "2");
    let detail = answer.refused(503, "no_ingest");
    assert!(detail.contains("rtmp.public_url"), "{detail}");
    let shown = world.get(&format!("/v1/streams/{id}"), ALICE).await.json();
    assert_eq!(shown["ingest"]["rtmp_url"], Value::Null);
    assert_eq!(world.get("/v1/streams", ALICE).await.json()["data"], json!([shown]));
}

#[tokio::test]
async fn a_key_is_replaced_and_whoever_has_the_feed_is_told() {
    let world = World::new();
    let id = world.stream(ALICE).await;
    let path = format!("/v1/streams/{id}");
    let key = |stream: &Value| stream["ingest"]["stream_key"].as_str().unwrap().to_owned();
    let before = key(&world.get(&path, ALICE).await.json());
    let mut known = vec![before];
    for _ in 0..2 {
        let rotated = world.ask("POST", &format!("{path}/rotate-key"), ALICE, &[]).await;
        assert_eq!((rotated.status.as_u16(), rotated.header("cache-control")), (200, "no-store"));
        let new = key(&rotated.json());
        assert!(!known.contains(&new) && new.starts_with("sk_live_"), "{new} {known:?}");
        assert_eq!(world.get(&path, ALICE).await.json(), rotated.json());
        known.push(new);
    }
    assert_eq!(*world.feeds.rekeyed.lock().unwrap(), known[1..]);
    world.ask("POST", &format!("{path}/rotate-key"), BOB, &[]).await.refused(404, "not_found");
    world.ask("POST", &format!("{path}/stop"), ALICE, &[]).await;
    world.ask("POST", &format!("{path}/rotate-key"), ALICE, &[]).await.refused(409, "stream_over");
    assert_eq!(world.feeds.rekeyed.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_stream_is_relayed_to_rtmp_servers_and_their_keys_are_not_shown() {
    let world = World::new();
    let create = async |kind: &str, forward: Value| {
        let mut new = json!({"name": "a", "source": {"kind": kind}, "forward": forward});
        if kind == "url" {
            new["source"]["url"] = json!("https://a.test/live.m3u8");
        }
        world.post("/v1/streams", ALICE, new).await
    };
    let one = json!({"url": "rtmps://live.test/app/", "stream_key": "a_secret"});
    let idle = |url: &str| json!({"url": url, "state": "idle", "reason": null, "since": null});
    for (asked, shown) in [
        (one.clone(), vec![idle("rtmps://live.test/app/…")]),
        (json!([one]), vec![idle("rtmps://live.test/app/…")]),
        (json!({"url": "rtmp://live.test:1936/app/inst/a_secret"}), vec![idle("rtmp://live.test:1936/app/inst/…")]),
        (json!({"url": "rtmps://live.test:443/app/a_secret?s=a/secret"}), vec![idle("rtmps://live.test:443/app/…")]),
        (
            json!([one, {"url": "rtmp://live.test/app?a_secret", "stream_key": "k"}]),
            vec![idle("rtmps://live.test/app/…"), idle("rtmp://live.test/app/…")],
        ),
        (json!([]), vec![]),
        (Value::Null, vec![]),
    ] {
        let made = create("rtmp", asked).await;
        assert_eq!((made.status.as_u16(), &made.json()["forward"]), (201, &json!(shown)));
        let path = format!("/v1/streams/{}", made.json()["id"].as_str().unwrap());
        assert_eq!(world.get(&path, ALICE).await.json(), made.json());
        assert!(!made.json().to_string().contains("secret"), "{}", made.json());
    }
    create("rtmp", json!({"url": "rtmps://live.test/app/KEY?s=a/b"})).await;
    let kept = world.store.streams.lock().unwrap()[0].forward.clone();
    assert_eq!((kept[0].url.as_str(), kept[0].stream_key.as_deref()), ("rtmps://live.test/app", Some("KEY?s=a/b")));

    // How a server is doing is shown while the stream is live: what is left of a process that died is not.
    let id = world.store.streams.lock().unwrap()[0].id.clone();
    let status = ForwardStatus { state: ForwardState::Waiting, reason: Some("gone".into()), since: WallTime(0) };
    world.store.streams.lock().unwrap()[0].forwarded = vec![status];
    let shown = async || world.get(&format!("/v1/streams/{id}"), ALICE).await.json()["forward"].clone();
    assert_eq!(shown().await, json!([idle("rtmps://live.test/app/…")]));
    world.set_state(&id, StreamState::Live);
    let waiting = json!({"url": "rtmps://live.test/app/…", "state": "waiting", "reason": "gone",
        "since": "1970-01-01T00:00:00.000Z"});
    assert_eq!(shown().await, json!([waiting]));

    for url in [
        "http://live.test/app/key",
        "rtmp://live.test",
        "rtmp://live.test/key",
        "rtmp:///app/key",
        "live.test",
        "rtmp://user:word@live.test/app/key",
        "rtmp://live.test/app/key#there",
        &format!("rtmp://live.test/app/{}", "k".repeat(2000)),
    ] {
        let detail = create("rtmp", json!({ "url": url })).await.refused(422, "invalid_url");
        assert!(detail.starts_with("forward.url: ") && !detail.contains("key at"), "{detail}");
    }
    create("rtmp", json!([one, one, one, one, one])).await.refused(422, "invalid_request");
    let detail = create("rtmp", json!([one, one])).await.refused(422, "invalid_request");
    assert!(detail.contains("twice"), "{detail}");
    for kind in ["url", "srt", "whip"] {
        let detail = create(kind, one.clone()).await.refused(422, "invalid_request");
        assert!(detail.contains("over RTMP"), "{detail}");
        assert_eq!(create(kind, json!([])).await.status, 201);
    }
}

#[tokio::test]
async fn an_audio_track_is_chosen_where_there_may_be_several() {
    let world = World::new();
    let create = async |kind: &str, track: Value| {
        let url = if kind == "url" { json!("https://a.test/live.m3u8") } else { Value::Null };
        let new = json!({"name": "a", "source": {"kind": kind, "url": url, "audio_track": track}});
        world.post("/v1/streams", ALICE, new).await
    };
    for kind in ["rtmp", "srt", "url"] {
        for track in [json!(0), json!(7), Value::Null] {
            let made = create(kind, track.clone()).await;
            assert_eq!((made.status.as_u16(), &made.json()["source"]["audio_track"]), (201, &track), "{kind}");
        }
    }
    let detail = create("whip", json!(1)).await.refused(422, "invalid_request");
    assert!(detail.starts_with("source.audio_track: "), "{detail}");
    for wrong in [json!(-1), json!(256), json!("first")] {
        let detail = create("rtmp", wrong).await.refused(422, "invalid_body");
        assert!(detail.contains("audio_track"), "{detail}");
    }
}
