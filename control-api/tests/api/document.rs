//! The API description says what the router does, and the catalogues what the rest of crest does.

use crest_core::event::EventType;
use crest_core::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;

use crate::world::{ALICE, OPERATOR, World};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Everything the API offers.
const ROUTES: [&str; 26] = [
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /docs",
    "POST /v1/organizations",
    "GET /v1/signals",
    "GET /v1/event-types",
    "GET /v1/events",
    "POST /v1/streams",
    "GET /v1/streams",
    "GET /v1/streams/{id}",
    "POST /v1/streams/{id}/rotate-key",
    "POST /v1/streams/{id}/stop",
    "GET /v1/streams/{id}/highlights",
    "POST /v1/streams/{id}/chat",
    "POST /v1/streams/{id}/markers",
    "GET /v1/highlights",
    "GET /v1/highlights/{id}",
    "GET /v1/highlights/{id}/clip",
    "GET /v1/highlights/{id}/thumbnail",
    "POST /v1/webhooks",
    "GET /v1/webhooks",
    "GET /v1/webhooks/{id}",
    "DELETE /v1/webhooks/{id}",
    "GET /v1/webhooks/{id}/deliveries",
];

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, _)| {
        let methods: &'_ serde_json::Map<String, Value> = Value::as_object(methods).unwrap();
        let named = methods.iter().map(|(method, op)| (format!("{} {path}", method.to_uppercase()), op));
        named.collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn the_description_and_the_router_agree() {
    let world = World::new();
    // Event streams end at once, and can be read to their end.
    world.shutdown.cancel();
    let document = world.get("/openapi.json", "").await.json();
    let described: BTreeSet<String> = operations(&document).into_iter().map(|(name, _)| name).collect();
    let expected = ROUTES.iter().map(|route| (*route).to_owned());
    assert_eq!(described, expected.collect::<BTreeSet<_>>());
    for path in document["paths"].as_object().unwrap().keys() {
        for method in METHODS {
            let answer = world.ask(method, &path.replace("{id}", "never"), OPERATOR, &[]).await;
            let known = answer.status != 405;
            assert_eq!(known, described.contains(&format!("{method} {path}")), "{method} {path}");
            if answer.status == 404 {
                answer.refused(404, "not_found");
            }
        }
    }
}

#[tokio::test]
async fn every_operation_is_described_to_the_end() {
    let document = serde_json::to_value(crest_control_api::openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["components"]["securitySchemes"]["api_key"]["scheme"], "bearer");
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}");
        assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{name}");
        assert_eq!(operation["security"].as_array().is_some_and(|s| !s.is_empty()), name.contains(" /v1/"), "{name}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
        for (status, response) in responses {
            let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
            let error = status.starts_with('4') || status.starts_with('5');
            assert_eq!(*problem == "#/components/schemas/Problem", error, "{name} {status}");
        }
        assert_eq!(responses.contains_key("401"), name.contains(" /v1/"), "{name}");
        assert_eq!(responses.contains_key("404"), name.contains("{id}"), "{name}");
        for needed in ["400", "413", "415", "422"].iter().filter(|_| operation.get("requestBody").is_some()) {
            assert!(responses.contains_key(*needed), "{name} {needed}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name} {parameter}");
        }
    }
    references(&document, &document);
}

/// Holds that every reference leads somewhere.
fn references(value: &Value, document: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let target = document.pointer(reference.trim_start_matches('#'));
                assert!(target.is_some(), "{reference} leads nowhere");
            }
            map.values().for_each(|inner| references(inner, document));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, document)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let world = World::new();
    let page = world.get("/docs", "").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    let html = String::from_utf8(page.body).unwrap();
    for absent in ["<script", "src=", "http://", "<link"] {
        assert!(!html.contains(absent), "{absent}");
    }
    for present in ["/v1/streams/{id}/chat", "id=\"problem-stream_over\"", "id=\"schema-NewWebhook\""] {
        assert!(html.contains(present), "{present}");
    }
}

#[tokio::test]
async fn the_catalogues_are_complete_and_samples_fit_their_schemas() {
    let world = World::new();
    let signals = world.get("/v1/signals", ALICE).await.json();
    let names: Vec<_> = signals["data"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, Signal::CATALOGUE.map(|info| info.name));
    let types = world.get("/v1/event-types", ALICE).await.json();
    let types = types["data"].as_array().unwrap();
    assert_eq!(types.len(), EventType::ALL.len());
    for one in types {
        let (name, sample, schema) = (&one["type"], &one["sample"], &one["schema"]);
        assert_eq!((&sample["type"], &schema["properties"]["type"]["const"]), (name, name));
        assert_eq!(sample["data"]["sequence"], 1);
        references(schema, schema);
        let subject = ["HighlightView", "Stream"].map(|key| &schema["$defs"][key]);
        let subject = subject.into_iter().find(|found| found.is_object());
        assert_eq!(subject.is_some(), one["available"] == true, "{name}");
        for required in subject.into_iter().flat_map(|s| s["required"].as_array().unwrap()) {
            assert!(sample["data"].get(required.as_str().unwrap()).is_some(), "{name} {required}");
        }
    }
}
