//! The outbox: order per endpoint, leases, retries.

use crest_core::event::{Event, EventType};
use crest_core::highlight::Decision;
use crest_core::store::Page;
use crest_core::webhook::{AttemptOutcome, DeliveryOrder, DeliveryState, Endpoint, LeasedDelivery};
use crest_core::{EndpointId, WallTime};

use super::world::{NOW, World};

const LEASE_MS: i64 = 20_000;
const ORDER: DeliveryOrder = DeliveryOrder { attempts: 4, millis: 600_000, per_organization: 8 };

async fn lease(world: &World, now: WallTime) -> Vec<(String, u64)> {
    let leased = world.store.lease_deliveries(now, now.plus_millis(LEASE_MS), 100, &ORDER).await.unwrap();
    let name = |l: &LeasedDelivery| (l.endpoint.id.to_string(), l.delivery.sequence);
    let mut names: Vec<_> = leased.iter().map(name).collect();
    names.sort();
    world.leased.lock().unwrap().extend(leased);
    names
}

/// Notes how the attempt at the detection at `entry` went.
async fn finish(world: &World, entry: i64, endpoint: &Endpoint, outcome: &AttemptOutcome, now: WallTime) {
    world.finish(&world.detected(entry).1.unwrap(), endpoint, outcome, now).await;
}

#[tokio::test]
async fn a_slow_endpoint_keeps_its_order_and_delays_no_other() {
    let world = World::new().await;
    let (a, b) = (world.add_endpoint("a").await, world.add_endpoint("b").await);
    world.commit(vec![world.detected(10), world.detected(100), world.detected(200)]).await;
    assert_eq!(lease(&world, NOW).await, [("whe_a".into(), 1), ("whe_b".into(), 1)]);
    assert_eq!(lease(&world, NOW).await, [], "both heads are leased");

    let done = AttemptOutcome::Delivered { status: 204 };
    finish(&world, 10, &b, &done, NOW).await;
    assert_eq!(lease(&world, NOW).await, [("whe_b".into(), 2)], "a is still busy with its first");

    let again = NOW.plus_millis(5000);
    let retry = AttemptOutcome::Retry { at: again, reason: "status 503".into() };
    finish(&world, 10, &a, &retry, NOW).await;
    finish(&world, 100, &b, &done, NOW).await;
    assert_eq!(lease(&world, NOW).await, [("whe_b".into(), 3)], "a's second does not overtake its first");
    assert_eq!(lease(&world, again).await, [("whe_a".into(), 1)]);

    let gave_up = AttemptOutcome::GaveUp { reason: "status 410".into() };
    finish(&world, 10, &a, &gave_up, again).await;
    assert_eq!(lease(&world, again).await, [("whe_a".into(), 2)]);
    let first = world.deliveries_of(&a).await.pop().unwrap();
    assert_eq!((first.state, first.attempts), (DeliveryState::Failed, 2));
    assert_eq!(first.last_outcome.as_deref(), Some("status 410"));
}

#[tokio::test]
async fn a_lease_that_runs_out_sends_the_same_thing_again() {
    let world = World::new().await;
    world.add_endpoint("a").await;
    world.commit(vec![world.detected(10)]).await;
    let first = world.store.lease_deliveries(NOW, NOW.plus_millis(LEASE_MS), 1, &ORDER).await.unwrap().remove(0);
    let after = world.home.after_a_kill().await;
    let late = NOW.plus_millis(LEASE_MS);
    assert!(after.lease_deliveries(late.plus_millis(-1), late, 1, &ORDER).await.unwrap().is_empty());
    let second = after.lease_deliveries(late, late.plus_millis(LEASE_MS), 1, &ORDER).await.unwrap().remove(0);
    assert_eq!(second.delivery.id, first.delivery.id);
    assert_eq!(second.delivery.body, first.delivery.body);
    assert_eq!(second.endpoint, first.endpoint);
}

#[tokio::test]
async fn a_late_word_from_a_worker_whose_lease_ran_out_changes_nothing() {
    let world = World::new().await;
    let a = world.add_endpoint("a").await;
    world.commit(vec![world.detected(10)]).await;
    let slow = world.store.lease_deliveries(NOW, NOW.plus_millis(LEASE_MS), 1, &ORDER).await.unwrap().remove(0);
    let later = NOW.plus_millis(LEASE_MS);
    assert_eq!(lease(&world, later).await, [("whe_a".into(), 1)]);
    let retry = AttemptOutcome::Retry { at: later, reason: "timeout".into() };
    world.store.finish_attempt(&slow, &retry, later).await.unwrap();
    assert_eq!(lease(&world, later).await, [], "the other still has it");
    assert_eq!(world.deliveries_of(&a).await[0].attempts, 0);
    finish(&world, 10, &a, &AttemptOutcome::Delivered { status: 200 }, later).await;
    assert_eq!(world.deliveries_of(&a).await[0].attempts, 1);
}

#[tokio::test]
async fn what_was_delivered_stays_delivered() {
    let world = World::new().await;
    let a = world.add_endpoint("a").await;
    world.commit(vec![world.detected(10)]).await;
    lease(&world, NOW).await;
    finish(&world, 10, &a, &AttemptOutcome::Delivered { status: 200 }, NOW).await;
    let late = AttemptOutcome::Retry { at: NOW, reason: "timeout".into() };
    finish(&world, 10, &a, &late, NOW).await;
    let delivery = world.deliveries_of(&a).await.remove(0);
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 1));
    assert_eq!(delivery.last_outcome.as_deref(), Some("200"));
    assert_eq!(world.store.outbox_depth().await.unwrap(), (0, None));
}

#[tokio::test]
async fn an_endpoint_gets_what_it_asked_for_in_a_gapless_sequence() {
    let world = World::new().await;
    let all = world.add_endpoint("all").await;
    let picky = Endpoint {
        id: EndpointId::from_raw("whe_picky"),
        events: vec![EventType::HighlightUpdated],
        min_score: Some(0.5),
        ..all.clone()
    };
    let proud = Endpoint { id: EndpointId::from_raw("whe_proud"), min_score: Some(0.9), ..all.clone() };
    world.store.create_endpoint(&picky).await.unwrap();
    world.store.create_endpoint(&proud).await.unwrap();
    assert_eq!(world.store.endpoint(&world.organization, &picky.id).await.unwrap().as_ref(), Some(&picky));

    world.commit(vec![world.detected(10), world.finalized(10, 2), world.detected(100), world.finalized(100, 2)]).await;
    let sequences = async |endpoint: &Endpoint| -> Vec<u64> {
        world.deliveries_of(endpoint).await.iter().map(|d| d.sequence).collect()
    };
    assert_eq!(sequences(&all).await, [4, 3, 2, 1]);
    assert_eq!(sequences(&picky).await, [2, 1]);
    assert_eq!(sequences(&proud).await, [] as [u64; 0]);
    let body: serde_json::Value = serde_json::from_str(&world.deliveries_of(&picky).await[0].body).unwrap();
    assert_eq!(body["data"]["sequence"], 2);
    assert_eq!(world.store.outbox_depth().await.unwrap(), (6, Some(NOW)));
}

#[tokio::test]
async fn a_removed_endpoint_takes_its_deliveries_along() {
    let world = World::new().await;
    let (a, b) = (world.add_endpoint("a").await, world.add_endpoint("b").await);
    world.commit(vec![world.detected(10)]).await;
    assert_eq!(lease(&world, NOW).await.len(), 2);
    assert!(world.store.delete_endpoint(&world.organization, &a.id).await.unwrap());
    assert!(!world.store.delete_endpoint(&world.organization, &a.id).await.unwrap());
    assert_eq!(lease(&world, NOW.plus_millis(LEASE_MS)).await, [("whe_b".into(), 1)]);
    finish(&world, 10, &a, &AttemptOutcome::Delivered { status: 200 }, NOW).await;
    assert_eq!(world.store.endpoints(&world.organization, &super::world::page(10)).await.unwrap().items, [b]);
}

#[tokio::test]
async fn deliveries_page_and_filter_by_state() {
    let world = World::new().await;
    let a = world.add_endpoint("a").await;
    world.commit((0..5).map(|n| world.detected(n * 100)).collect()).await;
    lease(&world, NOW).await;
    finish(&world, 0, &a, &AttemptOutcome::Delivered { status: 200 }, NOW).await;
    let list =
        async |state, page: &Page| world.store.deliveries(&world.organization, &a.id, state, page).await.unwrap();
    let first = list(None, &Page { after: None, limit: 3 }).await;
    let second = list(None, &Page { after: first.next.clone(), limit: 3 }).await;
    let sequences: Vec<u64> = first.items.iter().chain(&second.items).map(|d| d.sequence).collect();
    assert_eq!(sequences, [5, 4, 3, 2, 1]);
    assert_eq!(second.next, None);
    assert_eq!(list(Some(DeliveryState::Delivered), &Page { after: None, limit: 3 }).await.items.len(), 1);
    assert_eq!(list(Some(DeliveryState::Pending), &Page { after: None, limit: 9 }).await.items.len(), 4);
}

#[tokio::test]
async fn what_is_refused_again_and_again_steps_aside() {
    let world = World::new().await;
    let a = world.add_endpoint("a").await;
    world.commit(vec![world.detected(10), world.detected(100)]).await;
    let later = NOW.plus_millis(ORDER.millis);
    for attempt in 0..4 {
        assert_eq!(lease(&world, later).await, [("whe_a".into(), 1)], "attempt {attempt}: the second waits");
        let retry = AttemptOutcome::Retry { at: NOW, reason: "status 500".into() };
        finish(&world, 10, &a, &retry, NOW).await;
    }
    assert_eq!(lease(&world, later).await, [("whe_a".into(), 2)]);
    assert_eq!(lease(&world, later).await, [], "one at a time");
    let done = AttemptOutcome::Delivered { status: 204 };
    finish(&world, 100, &a, &done, NOW).await;
    assert_eq!(lease(&world, later).await, [("whe_a".into(), 1)], "and the first is not forgotten");
}

#[tokio::test]
async fn a_receiver_that_is_away_for_minutes_keeps_its_order() {
    let world = World::new().await;
    let a = world.add_endpoint("a").await;
    world.commit(vec![world.detected(10), world.detected(100)]).await;
    for second in 0..300 {
        let now = NOW.plus_millis(second * 1000);
        assert_eq!(lease(&world, now).await, [("whe_a".into(), 1)], "after {second} s");
        let retry = AttemptOutcome::Retry { at: now, reason: "status 500".into() };
        finish(&world, 10, &a, &retry, now).await;
    }
}

#[tokio::test]
async fn one_tenants_hanging_receivers_leave_room_for_the_others() {
    let world = World::new().await;
    for n in 0..20 {
        world.add_endpoint(&format!("{n:02}")).await;
    }
    world.commit(vec![world.detected(10)]).await;
    assert_eq!(lease(&world, NOW).await.len(), 8);
    assert_eq!(lease(&world, NOW).await.len(), 0);
}

#[tokio::test]
async fn a_highlight_that_passes_the_limit_late_is_told_from_its_detection_on() {
    let world = World::new().await;
    let all = world.add_endpoint("all").await;
    let created_at = NOW.plus_millis(-1000);
    let proud = Endpoint { id: EndpointId::from_raw("whe_proud"), min_score: Some(0.9), created_at, ..all.clone() };
    world.store.create_endpoint(&proud).await.unwrap();
    let scored = |(decision, event): (Decision, Option<Event>), score: f64| {
        (decision, event.map(|event| Event { score: Some(score), ..event }))
    };
    let told = async || -> Vec<(u64, &'static str)> {
        let list = world.deliveries_of(&proud).await;
        list.iter().rev().map(|d| (d.sequence, d.event_type.name())).collect()
    };
    world.commit(vec![scored(world.detected(10), 0.5)]).await;
    assert_eq!(told().await, []);
    world.commit(vec![scored(world.finalized(10, 2), 0.95)]).await;
    assert_eq!(told().await.first(), Some(&(1, "highlight.detected")));
    assert_eq!(told().await.len(), 2);
    world.commit(vec![scored(world.deleted(10, 3), 0.1)]).await;
    assert_eq!(told().await.last(), Some(&(3, "highlight.deleted")), "whoever was told is told the end");
}
