//! What a process answers that does not serve the API, or not yet.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use crest_control_api::{BareState, bare, starting};
use crest_core::WallTime;
use crest_core::space::{Room, Space};
use crest_core::units::Span;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tower::ServiceExt;

use crate::fakes::MemoryStore;

async fn get(router: &Router, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap())
}

fn json_of(answer: &(u16, String)) -> Value {
    serde_json::from_str(&answer.1).unwrap()
}

#[tokio::test]
async fn a_process_with_other_roles_says_how_it_is_and_where_the_api_is_not() {
    let (space, ready) = (Space::default(), Arc::new(AtomicBool::new(false)));
    let router = bare(BareState {
        store: Arc::new(MemoryStore::default()),
        space: space.clone(),
        ready: ready.clone(),
        ready_timeout: Span::secs(2),
        metrics: Arc::new(|| "crest_up 1\n".to_owned()),
        roles: "ingest,deliver".to_owned(),
    });
    assert_eq!(get(&router, "/healthz").await.0, 200);
    assert_eq!(get(&router, "/metrics").await, (200, "crest_up 1\n".to_owned()));
    assert_eq!(json_of(&get(&router, "/readyz").await)["code"], "not_ready");
    ready.store(true, Ordering::Release);
    assert_eq!(json_of(&get(&router, "/readyz").await), json!({"status": "ready", "storage": "ample"}));
    space.publish(Room::Short, 0, WallTime(0));
    assert_eq!(json_of(&get(&router, "/readyz").await), json!({"status": "ready", "storage": "short"}));
    for path in ["/v1/streams", "/docs", "/openapi.json", "/"] {
        let answer = get(&router, path).await;
        assert_eq!((answer.0, &json_of(&answer)["code"]), (404, &json!("path_not_found")));
        assert!(answer.1.contains("--roles ingest,deliver"), "{}", answer.1);
    }
}

#[tokio::test]
async fn a_process_that_starts_is_alive_and_says_what_it_waits_for() {
    let waiting = || "The server is starting; it waits for the bus (bus.brokers).".to_owned();
    let router = starting(waiting, Arc::new(String::new));
    assert_eq!(get(&router, "/healthz").await.0, 200);
    assert_eq!(get(&router, "/metrics").await.0, 200);
    for path in ["/readyz", "/v1/streams", "/docs"] {
        let answer = get(&router, path).await;
        assert_eq!((answer.0, &json_of(&answer)["code"]), (503, &json!("not_ready")), "{path}");
        assert!(answer.1.contains("bus.brokers"), "{}", answer.1);
    }
}
