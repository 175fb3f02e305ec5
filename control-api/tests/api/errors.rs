//! Every error is a problem, whoever made it.

use axum::body::Body;
use axum::http::Request;
use crest_core::Error;
use serde_json::json;
use std::sync::atomic::Ordering;

use crate::fakes::Stopping;
use crate::world::{ALICE, World};

#[tokio::test]
async fn unknown_paths_and_methods() {
    let world = World::new();
    for path in ["/", "/v2", "/v1/nothing", "/v1/streams/", "/v1/streams/a/b/c", "//v1/streams", "/%761/streams"] {
        world.get(path, ALICE).await.refused(404, "path_not_found");
    }
    for (method, path, allowed) in [
        ("PUT", "/v1/streams", "GET,HEAD,POST"),
        ("DELETE", "/v1/streams/str_x", "GET,HEAD"),
        ("GET", "/v1/streams/str_x/stop", "POST"),
        ("POST", "/v1/highlights/hl_x/clip", "GET,HEAD"),
        ("BREW", "/healthz", "GET,HEAD"),
        ("OPTIONS", "/v1/webhooks/whe_x", "GET,HEAD,DELETE"),
    ] {
        let answer = world.ask(method, path, ALICE, &[]).await;
        answer.refused(405, "method_not_allowed");
        let sorted = |text: &str| {
            let mut methods: Vec<_> = text.split(',').map(|m| m.trim().to_owned()).collect();
            methods.sort();
            methods
        };
        assert_eq!(sorted(answer.header("allow")), sorted(allowed), "{method} {path}");
    }
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    let world = World::new();
    let post = |media_type, body: &str| world.post_text("/v1/streams", ALICE, media_type, body.to_owned());
    for broken in ["", "{", "not json", "{\"name\":\"a\"", "{\"name\":\"a\",\"source\":{\"kind\":\"rtmp\"}} x"] {
        post("application/json", broken).await.refused(400, "invalid_json");
    }
    post("text/plain", "{}").await.refused(415, "unsupported_media_type");
    post("application/json", &format!("\"{}\"", "x".repeat(1 << 20))).await.refused(413, "body_too_large");
    for (body, named) in [
        (json!({"source": {"kind": "rtmp"}}), "name"),
        (json!({"name": "a", "source": {"kind": "rtmp"}, "colour": 1}), "colour"),
        (json!({"name": "a", "source": {"kind": "smoke"}}), "source.kind"),
        (json!({"name": 5, "source": {"kind": "rtmp"}}), "name"),
        (json!([]), "expected"),
    ] {
        let detail = post("application/json", &body.to_string()).await.refused(422, "invalid_body");
        assert!(detail.contains(named), "{detail}");
    }
    let (_open, silent) = tokio::io::duplex(8);
    let body = Body::from_stream(tokio_util::io::ReaderStream::new(silent));
    let request = Request::post("/v1/streams").header("authorization", format!("Bearer {ALICE}"));
    let request = request.header("content-type", "application/json").body(body).unwrap();
    world.send(request).await.refused(408, "body_timeout");
    assert!(world.store.streams.lock().unwrap().is_empty());
}

#[tokio::test]
async fn wrong_query_parameters_are_named() {
    let world = World::new();
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("limit=1&limit=2", "limit"),
        ("state=splendid", "splendid"),
        ("colour=red", "colour"),
    ] {
        let answer = world.get(&format!("/v1/highlights?{query}"), ALICE).await;
        let detail = answer.refused(400, "invalid_parameter");
        assert!(detail.contains(named), "{detail}");
    }
}

#[tokio::test]
async fn a_panic_and_a_hang_become_answers() {
    let world = World::new();
    let path = format!("/v1/streams/{}/stop", world.stream(ALICE).await);
    *world.feeds.stopping.lock().unwrap() = Stopping::Panics;
    let answer = world.ask("POST", &path, ALICE, &[]).await;
    answer.refused(500, "internal");
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    *world.feeds.stopping.lock().unwrap() = Stopping::Hangs;
    let answer = world.ask("POST", &path, ALICE, &[]).await;
    answer.refused(503, "timeout");
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn what_fails_behind_the_api_is_told_by_kind_and_not_in_detail() {
    let world = World::new();
    for (error, status, code) in [
        (Error::outside("disk /secret is full"), 503, "unavailable"),
        (Error::ours("secret invariant"), 500, "internal"),
    ] {
        *world.store.failure.lock().unwrap() = Some(error);
        let answer = world.get("/v1/streams", ALICE).await;
        answer.refused(status, code);
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
}

#[tokio::test]
async fn the_server_tells_how_it_is() {
    let world = World::new();
    assert_eq!(world.get("/healthz", "").await.status, 200);
    assert_eq!(world.get("/readyz", "").await.status, 200);
    let metrics = world.get("/metrics", "").await;
    assert_eq!((metrics.status.as_u16(), metrics.body.as_slice()), (200, b"crest_up 1\n".as_slice()));
    *world.store.failure.lock().unwrap() = Some(Error::outside("gone"));
    world.get("/readyz", "").await.refused(503, "not_ready");
    *world.store.failure.lock().unwrap() = None;
    world.ready.store(false, Ordering::Release);
    world.get("/readyz", "").await.refused(503, "not_ready");
    assert_eq!(world.get("/healthz", "").await.status, 200);
}
