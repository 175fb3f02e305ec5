//! Webhook endpoints and what was sent to them.

use crest_control_api::ApiConfig;
use crest_core::event::EventType;
use crest_core::webhook::{Delivery, DeliveryState};
use crest_core::{EndpointId, EventId, WallTime, WebhookId};
use serde_json::{Value, json};

use crate::world::{ALICE, World, organization};

#[tokio::test]
async fn an_endpoint_shows_its_secret_once() {
    let world = World::new();
    let body =
        json!({"url": "https://a.test/hook", "events": ["highlight.ready", "highlight.ready"], "min_score": 0.5});
    let created = world.post("/v1/webhooks", ALICE, body).await;
    assert_eq!(created.status, 201);
    let mut endpoint = created.json();
    let path = format!("/v1/webhooks/{}", endpoint["id"].as_str().unwrap());
    assert_eq!(created.header("location"), path);
    assert!(endpoint["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!((&endpoint["url"], &endpoint["min_score"]), (&json!("https://a.test/hook"), &json!(0.5)));
    assert_eq!(endpoint["events"], json!(["highlight.ready"]));
    endpoint.as_object_mut().unwrap().remove("secret");
    assert_eq!(world.get(&path, ALICE).await.json(), endpoint);
    assert_eq!(world.get("/v1/webhooks", ALICE).await.json()["data"], json!([endpoint]));
    let gone = world.ask("DELETE", &path, ALICE, &[]).await;
    assert_eq!((gone.status.as_u16(), gone.body.len()), (204, 0));
    world.ask("DELETE", &path, ALICE, &[]).await.refused(404, "not_found");
    world.get(&path, ALICE).await.refused(404, "not_found");
}

#[tokio::test]
async fn endpoints_that_could_never_work_are_refused() {
    let world = World::with(ApiConfig { max_webhooks: 1, ..ApiConfig::default() });
    for url in ["", "a.test", "/hook", "ftp://a.test/", "http://", "javascript:alert(1)", &"h".repeat(3000)] {
        world.post("/v1/webhooks", ALICE, json!({"url": url})).await.refused(422, "invalid_url");
    }
    let unknown = json!({"url": "https://a.test/", "events": ["highlight.ready", "highlight.lost"]});
    let detail = world.post("/v1/webhooks", ALICE, unknown).await.refused(422, "unknown_event_type");
    assert!(detail.contains("events[1]") && detail.contains("stream.started"), "{detail}");
    for score in [-0.1, 1.1] {
        let body = json!({"url": "https://a.test/", "min_score": score});
        world.post("/v1/webhooks", ALICE, body).await.refused(422, "invalid_request");
    }
    assert_eq!(world.post("/v1/webhooks", ALICE, json!({"url": "http://127.0.0.1:9/x"})).await.status, 201);
    world.post("/v1/webhooks", ALICE, json!({"url": "https://a.test/"})).await.refused(409, "limit_reached");
}

#[tokio::test]
async fn deliveries_tell_where_they_stand() {
    let world = World::new();
    let id = world.post("/v1/webhooks", ALICE, json!({"url": "https://a.test/"})).await.json();
    let endpoint = EndpointId::from_raw(id["id"].as_str().unwrap());
    for (sequence, state) in [(2, DeliveryState::Pending), (1, DeliveryState::Delivered)] {
        let event = EventId::derive(&organization("alice"), "stream.started", "str_x", sequence);
        world.store.deliveries.lock().unwrap().push(Delivery {
            id: WebhookId::derive(&event, &endpoint),
            event_id: event,
            event_type: EventType::StreamStarted,
            endpoint_id: endpoint.clone(),
            organization_id: organization("alice"),
            sequence,
            body: "{}".into(),
            state,
            attempts: 1,
            next_attempt_at: WallTime(1_795_000_000_000),
            last_outcome: Some("200".into()),
            created_at: WallTime(1_795_000_000_000),
        });
    }
    let all = world.get(&format!("/v1/webhooks/{endpoint}/deliveries"), ALICE).await.json();
    let shown: Vec<_> = all["data"].as_array().unwrap().iter().map(|d| (&d["sequence"], &d["state"])).collect();
    assert_eq!(shown, [(&json!(2), &json!("pending")), (&json!(1), &json!("delivered"))]);
    assert!(all["data"][0]["next_attempt_at"].is_string());
    assert_eq!(all["data"][1]["next_attempt_at"], Value::Null);
    let done = world.get(&format!("/v1/webhooks/{endpoint}/deliveries?state=delivered"), ALICE).await.json();
    assert_eq!(done["data"].as_array().unwrap().len(), 1);
}
