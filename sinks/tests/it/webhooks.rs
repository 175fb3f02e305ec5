//! What a receiver meets.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use crest_core::trace::Trace;
use crest_core::webhook::{AttemptOutcome, DeliveryState};
use crest_core::{EndpointId, Error};
use crest_sinks::WebhooksConfig;
use standardwebhooks::Webhook;
use tokio::sync::Notify;

use crate::receiver::{Receiver, plain};
use crate::store::Memory;
use crate::{Running, clips, millis, start, webhooks};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A store with `count` events for the receiver at `url`, and the role running over it.
fn deliver(url: &str, count: u64, config: WebhooksConfig) -> (Arc<Memory>, EndpointId, Running) {
    let store = Arc::new(Memory::default());
    let endpoint = store.endpoint("a", url, SECRET, count);
    let running = start(&store, std::path::Path::new("/nowhere"), config, clips());
    (store, endpoint, running)
}

/// The reason of the first attempt that failed, once there is one.
async fn first_failure(store: &Memory) -> AttemptOutcome {
    store.until("a first attempt", |state| !state.outcomes.is_empty()).await;
    store.with(|state| state.outcomes[0].1.clone())
}

fn reason(outcome: &AttemptOutcome) -> &str {
    match outcome {
        AttemptOutcome::Retry { reason, .. } | AttemptOutcome::GaveUp { reason } => reason,
        AttemptOutcome::Delivered { .. } => "delivered",
    }
}

#[tokio::test]
async fn each_attempt_is_a_step_of_the_trace_that_the_event_belongs_to() {
    let receiver = Receiver::statuses(&[503, 200]).await;
    let store = Arc::new(Memory::default());
    let trace = Trace::new([7; 16], [1; 8]);
    store.with(|state| state.trace = Some(trace));
    let endpoint = store.endpoint("a", &receiver.url("/"), SECRET, 1);
    let _running = start(&store, std::path::Path::new("/nowhere"), webhooks(), clips());
    store.until("delivered", |state| state.all(&endpoint, DeliveryState::Delivered)).await;
    let steps: Vec<Trace> = receiver.received().iter().map(|r| r.header("traceparent").parse().unwrap()).collect();
    assert!(steps.iter().all(|step| step.id() == trace.id() && step.span() != trace.span()), "{steps:?}");
    assert_ne!(steps[0], steps[1]);
}

#[tokio::test]
async fn events_arrive_in_order_signed_and_as_they_were_frozen() {
    let receiver = Receiver::statuses(&[200]).await;
    let (store, endpoint, _running) = deliver(&receiver.url("/hook?token=1"), 5, webhooks());
    store.until("all delivered", |state| state.all(&endpoint, DeliveryState::Delivered)).await;

    let received = receiver.received();
    let frozen: Vec<_> = store.with(|state| state.deliveries.iter().map(|row| row.value.clone()).collect());
    assert_eq!(received.len(), 5);
    let other = Webhook::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    for (request, delivery) in received.iter().zip(&frozen) {
        Webhook::new(SECRET).unwrap().verify(&request.body, &request.headers).unwrap();
        assert!(other.verify(&request.body, &request.headers).is_err());
        assert_eq!(request.body, delivery.body.as_bytes());
        assert_eq!(request.header("webhook-id"), delivery.id.as_str());
        assert_eq!(request.header("content-type"), "application/json");
        assert!(request.header("user-agent").starts_with("crest/"));
        assert_eq!(request.header("traceparent"), "", "these belong to no trace");
        assert_eq!(request.path, "/hook");
    }
}

#[tokio::test]
async fn a_repeat_carries_the_same_id_and_body_and_holds_back_what_follows() {
    let receiver = Receiver::statuses(&[500, 429, 200]).await;
    let (store, endpoint, _running) = deliver(&receiver.url("/"), 2, webhooks());
    store.until("all delivered", |state| state.all(&endpoint, DeliveryState::Delivered)).await;

    let received = receiver.received();
    let ids: Vec<&str> = received.iter().map(|request| request.header("webhook-id")).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    assert!(received[0].body == received[1].body && received[1].body == received[2].body);
    Webhook::new(SECRET).unwrap().verify(&received[2].body, &received[2].headers).unwrap();
}

#[tokio::test]
async fn an_endpoint_that_hangs_delays_no_other() {
    let hanging = Receiver::start(|_| Box::pin(std::future::pending())).await;
    let quick = Receiver::statuses(&[200]).await;
    let store = Arc::new(Memory::default());
    let stuck = store.endpoint("stuck", &hanging.url("/"), SECRET, 2);
    let flowing = store.endpoint("flowing", &quick.url("/"), SECRET, 10);
    let config = WebhooksConfig { concurrency: 2, ..webhooks() };
    let _running = start(&store, std::path::Path::new("/nowhere"), config, clips());

    store.until("the quick one has all", |state| state.all(&flowing, DeliveryState::Delivered)).await;
    assert!(store.with(|state| state.all(&stuck, DeliveryState::Pending)));
}

#[tokio::test]
async fn the_limit_covers_the_whole_exchange_and_the_attempts_end() {
    let hanging = Receiver::start(|_| Box::pin(std::future::pending())).await;
    let config = WebhooksConfig { timeout: millis(100), retry: vec![millis(5)], ..webhooks() };
    let (store, endpoint, _running) = deliver(&hanging.url("/"), 1, config);
    store.until("given up", |state| state.all(&endpoint, DeliveryState::Failed)).await;

    let outcomes: Vec<AttemptOutcome> = store.with(|state| state.outcomes.iter().map(|o| o.1.clone()).collect());
    assert_eq!(outcomes.len(), 2);
    assert!(reason(&outcomes[0]).contains("no answer within 100ms"), "{outcomes:?}");
    assert!(reason(&outcomes[1]).contains("the last"), "{outcomes:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let redirect = |_| Response::builder().status(307).header("location", "/elsewhere").body(Body::empty()).unwrap();
    let receiver = Receiver::start(move |number| Box::pin(async move { redirect(number) })).await;
    let config = WebhooksConfig { retry: Vec::new(), ..webhooks() };
    let (store, endpoint, _running) = deliver(&receiver.url("/here"), 1, config);
    store.until("given up", |state| state.all(&endpoint, DeliveryState::Failed)).await;

    assert!(reason(&first_failure(&store).await).contains("307"));
    assert_eq!(receiver.received().iter().map(|r| r.path.as_str()).collect::<Vec<_>>(), ["/here"]);
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let endless = || {
        let chunk = || Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 4096]));
        Response::new(Body::from_stream(futures::stream::repeat_with(chunk)))
    };
    let receiver = Receiver::start(move |_| Box::pin(async move { endless() })).await;
    // The limit of the exchange is not what ends it.
    let config = WebhooksConfig { timeout: millis(3_600_000), ..webhooks() };
    let (store, endpoint, _running) = deliver(&receiver.url("/"), 2, config);
    store.until("both delivered", |state| state.all(&endpoint, DeliveryState::Delivered)).await;
}

#[tokio::test]
async fn private_addresses_are_refused_by_number_and_by_name() {
    let receiver = Receiver::statuses(&[200]).await;
    for host in ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]"] {
        let config = WebhooksConfig { allow_private: false, ..webhooks() };
        let (store, _, _running) = deliver(&format!("http://{host}:{}/", receiver.port), 1, config);
        let outcome = first_failure(&store).await;
        assert!(reason(&outcome).contains("private"), "{host}: {outcome:?}");
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_not_asked_again() {
    let receiver = Receiver::statuses(&[410]).await;
    let (store, endpoint, _running) = deliver(&receiver.url("/"), 1, webhooks());
    store.until("given up", |state| state.all(&endpoint, DeliveryState::Failed)).await;
    assert!(reason(&first_failure(&store).await).contains("410"));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_costs_nothing_but_time() {
    let release = Arc::new(Notify::new());
    let held = release.clone();
    let receiver = Receiver::start(move |_| {
        let held = held.clone();
        Box::pin(async move {
            held.notified().await;
            plain(200)
        })
    })
    .await;
    let store = Arc::new(Memory::default());
    store.with(|state| state.faults.extend([Error::outside("disk full"), Error::outside("disk full")]));
    let endpoint = store.endpoint("a", &receiver.url("/"), SECRET, 1);
    let config = WebhooksConfig { concurrency: 1, ..webhooks() };
    let _running = start(&store, std::path::Path::new("/nowhere"), config, clips());
    store.until("leased in spite of it", |state| state.deliveries[0].leased_until.0 > 0).await;
    // Clip jobs meet faults too, so there are enough for the outcome to meet one.
    store.with(|state| state.faults.extend(std::iter::repeat_n(Error::outside("disk full"), 40)));
    release.notify_one();
    store.until("delivered", |state| state.all(&endpoint, DeliveryState::Delivered)).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn what_is_under_way_at_the_shutdown_is_finished() {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, held) = (arrived.clone(), release.clone());
    let receiver = Receiver::start(move |_| {
        let (told, held) = (told.clone(), held.clone());
        Box::pin(async move {
            told.notify_one();
            held.notified().await;
            plain(204)
        })
    })
    .await;
    let (store, endpoint, mut running) = deliver(&receiver.url("/"), 2, webhooks());
    arrived.notified().await;
    running.shutdown.cancel();
    release.notify_one();
    running.sinks.take().unwrap().finished().await;
    assert_eq!(store.with(|state| state.states(&endpoint)), [DeliveryState::Delivered, DeliveryState::Pending]);
}
