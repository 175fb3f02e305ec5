//! Keys come before everything else, and tenants never see each other.

use axum::body::Body;
use axum::http::Request;
use crest_core::highlight::HighlightState;
use serde_json::json;

use crate::world::{ALICE, BOB, OPERATOR, World};

#[tokio::test]
async fn without_a_known_key_nothing_under_v1_answers() {
    let world = World::new();
    for (method, path) in [
        ("GET", "/v1/streams"),
        ("POST", "/v1/streams"),
        ("PATCH", "/v1/streams"),
        ("GET", "/v1/no/such/path"),
        ("GET", "/v1"),
        ("GET", "/v1/"),
        ("GET", "/v1/highlights/hl_x/clip"),
        ("GET", "/v1/streams?limit=nonsense"),
        ("OPTIONS", "/v1/streams"),
    ] {
        for key in ["", "wrong"] {
            let answer = world.ask(method, path, key, &[]).await;
            answer.refused(401, "unauthorized");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
        }
    }
    for value in ["crest_sk_alice", "Basic crest_sk_alice", "Bearer", "Bearer ", "Bearer \u{e9}"] {
        world.ask("GET", "/v1/streams", "", &[("authorization", value)]).await.refused(401, "unauthorized");
    }
    let twice = [("authorization", "Bearer crest_sk_bob")];
    world.ask("GET", "/v1/streams", ALICE, &twice).await.refused(401, "unauthorized");
    assert_eq!(world.ask("GET", "/v1/streams", "", &[("authorization", "bearer crest_sk_alice")]).await.status, 200);
}

#[tokio::test]
async fn the_key_is_looked_at_before_the_body() {
    let world = World::new();
    // A body that never arrives: reading it would wait for the limit and answer 408.
    let (_open, silent) = tokio::io::duplex(8);
    let request = Request::post("/v1/streams").header("content-type", "application/json");
    let body = Body::from_stream(tokio_util::io::ReaderStream::new(silent));
    world.send(request.body(body).unwrap()).await.refused(401, "unauthorized");
    for (media_type, body) in [("text/plain", "x".into()), ("application/json", "y".repeat(3 << 20))] {
        world.post_text("/v1/streams", "wrong", media_type, body).await.refused(401, "unauthorized");
    }
}

#[tokio::test]
async fn what_belongs_to_another_tenant_looks_like_what_never_was() {
    let world = World::new();
    let stream = world.stream(ALICE).await;
    let highlight = world.highlight("alice", &stream, 4, HighlightState::Ready, b"clip");
    let webhook = world.post("/v1/webhooks", ALICE, json!({"url": "https://a.test/"})).await.json();
    let webhook = webhook["id"].as_str().unwrap();
    for (method, template, own, never) in [
        ("GET", "/v1/streams/{}", stream.as_str(), "str_never"),
        ("POST", "/v1/streams/{}/stop", stream.as_str(), "str_never"),
        ("GET", "/v1/streams/{}/highlights", stream.as_str(), "str_never"),
        ("POST", "/v1/streams/{}/chat", stream.as_str(), "str_never"),
        ("POST", "/v1/streams/{}/markers", stream.as_str(), "str_never"),
        ("GET", "/v1/highlights/{}", highlight.as_str(), "hl_never"),
        ("GET", "/v1/highlights/{}/clip", highlight.as_str(), "hl_never"),
        ("GET", "/v1/highlights/{}/thumbnail", highlight.as_str(), "hl_never"),
        ("GET", "/v1/webhooks/{}", webhook, "whe_never"),
        ("DELETE", "/v1/webhooks/{}", webhook, "whe_never"),
        ("GET", "/v1/webhooks/{}/deliveries", webhook, "whe_never"),
    ] {
        let theirs = world.ask(method, &template.replace("{}", own), BOB, &[]).await;
        let nobodys = world.ask(method, &template.replace("{}", never), BOB, &[]).await;
        theirs.refused(404, "not_found");
        assert_eq!((theirs.status, &theirs.body), (nobodys.status, &nobodys.body), "{method} {template}");
        assert_eq!(theirs.headers, nobodys.headers);
        let odd = world.ask(method, &template.replace("{}", "%ff%00'--"), BOB, &[]).await;
        assert_eq!(odd.body, nobodys.body, "{method} {template}");
    }
    for list in ["/v1/streams", "/v1/highlights", "/v1/webhooks", &format!("/v1/highlights?stream_id={stream}")] {
        assert_eq!(world.get(list, BOB).await.json(), json!({"data": [], "next": null}));
        assert_eq!(world.get(list, ALICE).await.json()["data"].as_array().unwrap().len(), 1, "{list}");
    }
    assert_eq!(world.get(&format!("/v1/webhooks/{webhook}"), ALICE).await.status, 200);
}

#[tokio::test]
async fn only_the_operator_creates_organizations() {
    let world = World::new();
    // Refused before the body is looked at.
    world.post_text("/v1/organizations", ALICE, "text/plain", "?".into()).await.refused(403, "operator_only");
    world.post("/v1/organizations", OPERATOR, json!({"name": " "})).await.refused(422, "invalid_request");
    let created = world.post("/v1/organizations", OPERATOR, json!({"name": "Carol"})).await;
    assert_eq!(created.status, 201);
    let body = created.json();
    assert_eq!(body["name"], "Carol");
    assert!(body["id"].as_str().unwrap().starts_with("org_"));
    let key = body["api_key"].as_str().unwrap();
    assert!(key.starts_with("crest_sk_") && key.len() > 40);
    assert_eq!(world.get("/v1/streams", key).await.status, 200);
}
