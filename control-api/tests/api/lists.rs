//! Lists in parts, and highlights in them.

use crest_core::highlight::HighlightState;
use serde_json::Value;
use std::collections::BTreeSet;

use crate::world::{ALICE, World};

#[tokio::test]
async fn the_parts_of_a_list_make_the_whole() {
    let world = World::new();
    let mut expected = BTreeSet::new();
    for _ in 0..7 {
        expected.insert(world.stream(ALICE).await.to_string());
    }
    let mut seen = BTreeSet::new();
    let mut path = "/v1/streams?limit=3".to_owned();
    for size in [3, 3, 1] {
        let part = world.get(&path, ALICE).await.json();
        let data = part["data"].as_array().unwrap();
        assert_eq!(data.len(), size);
        seen.extend(data.iter().map(|stream| stream["id"].as_str().unwrap().to_owned()));
        match part["next"].as_str() {
            Some(next) => path = format!("/v1/streams?limit=3&cursor={next}"),
            None => assert_eq!(size, 1),
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_cursor_that_was_not_handed_out_for_this_list_is_refused() {
    let world = World::new();
    world.stream(ALICE).await;
    world.stream(ALICE).await;
    let next = world.get("/v1/streams?limit=1", ALICE).await.json()["next"].as_str().unwrap().to_owned();
    // The last one is well-formed and means nothing to the store.
    for cursor in ["", "!!", "AAAA", &"A".repeat(5000), "c3RyZWFtczpub25zZW5zZQ"] {
        let answer = world.get(&format!("/v1/streams?cursor={cursor}"), ALICE).await;
        answer.refused(400, "invalid_cursor");
    }
    world.get(&format!("/v1/highlights?cursor={next}"), ALICE).await.refused(400, "invalid_cursor");
    assert_eq!(world.get(&format!("/v1/streams?cursor={next}"), ALICE).await.status, 200);
}

#[tokio::test]
async fn highlights_are_found_by_stream_and_state() {
    let world = World::new();
    let (one, other) = (world.stream(ALICE).await, world.stream(ALICE).await);
    let ready = world.highlight("alice", &one, 20, HighlightState::Ready, b"clip");
    let early = world.highlight("alice", &one, 90, HighlightState::Provisional, b"");
    let elsewhere = world.highlight("alice", &other, 20, HighlightState::Ready, b"clip");
    for (path, expected) in [
        ("/v1/highlights".to_owned(), vec![&elsewhere, &early, &ready]),
        (format!("/v1/highlights?stream_id={one}"), vec![&early, &ready]),
        (format!("/v1/streams/{one}/highlights"), vec![&early, &ready]),
        (format!("/v1/streams/{one}/highlights?state=ready"), vec![&ready]),
        ("/v1/highlights?state=provisional".to_owned(), vec![&early]),
    ] {
        let list = world.get(&path, ALICE).await.json();
        let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|h| h["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{path}");
    }
    let shown = world.get(&format!("/v1/highlights/{ready}"), ALICE).await.json();
    assert_eq!((shown["start_s"].as_f64(), shown["end_s"].as_f64()), (Some(10.0), Some(19.0)));
    assert_eq!(shown["clip_url"], format!("https://crest.test/v1/highlights/{ready}/clip"));
    assert_eq!(shown["thumbnail_url"], Value::Null);
}
