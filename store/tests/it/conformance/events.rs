//! Events as a tenant reads them on: every one, once, in the order of the commits.

use crest_core::event::{Event, EventType};
use crest_core::stream::StreamState;
use crest_core::{Error, OrganizationId, StreamId};
use serde_json::json;

use super::world::{NOW, World, stream_of};

async fn positions(world: &World, organization: &OrganizationId, after: u64, limit: u32) -> Vec<(u64, EventType)> {
    let found = world.store.events_after(organization, after, limit).await.unwrap();
    found.into_iter().map(|e| (e.position, e.event.event_type)).collect()
}

/// A step of a stream, with the event that tells it.
async fn step(world: &World, owner: &OrganizationId, stream: &StreamId, to: StreamState, kind: EventType) {
    let event = Event::new(owner.clone(), kind, stream.as_str(), 1, NOW, json!({}));
    world.store.transition_stream(stream, None, to, None, NOW, &[event]).await.unwrap();
}

#[tokio::test]
async fn positions_count_each_tenants_events_and_a_repeat_takes_none() {
    use EventType::{HighlightDetected, HighlightUpdated, StreamStarted};
    let world = World::new().await;
    let other = world.store.create_organization("other", "crest_sk_other", NOW).await.unwrap().id;
    let foreign = StreamId::from_raw("str_other");
    world.store.create_stream(&stream_of(&other, &foreign, NOW)).await.unwrap();

    step(&world, &world.organization, &world.stream, StreamState::Live, StreamStarted).await;
    world.commit(vec![world.detected(10)]).await;
    step(&world, &other, &foreign, StreamState::Live, StreamStarted).await;
    // Derived again after a kill: the first is there, the second is new.
    world.commit(vec![world.detected(10), world.finalized(10, 2)]).await;

    let all = [(1, StreamStarted), (2, HighlightDetected), (3, HighlightUpdated)];
    assert_eq!(positions(&world, &world.organization, 0, 100).await, all);
    assert_eq!(positions(&world, &world.organization, 1, 1).await, all[1..2]);
    assert_eq!(positions(&world, &world.organization, 3, 100).await, []);
    assert_eq!(positions(&world, &other, 0, 100).await, [(1, StreamStarted)]);
    let unknown = OrganizationId::from_raw("org_nobody");
    let last = world.store.last_positions(&[world.organization.clone(), other.clone(), unknown]).await.unwrap();
    assert_eq!(last, [(world.organization.clone(), 3), (other.clone(), 1)].into());

    let second = &world.store.events_after(&world.organization, 1, 1).await.unwrap()[0].event;
    assert_eq!(world.detected(10).1.as_ref(), Some(second), "an event is read as it was committed");
    let at = |owner: OrganizationId, position| {
        let store = world.store.clone();
        async move { store.event_at(&owner, position).await.unwrap() }
    };
    assert_eq!(at(world.organization.clone(), 2).await, Some(second.id.clone()));
    assert_eq!(at(other, 2).await, None);
}

#[tokio::test]
async fn a_commit_that_fails_leaves_no_gap() {
    let world = World::new().await;
    let (owner, stream) = (&world.organization, &world.stream);
    step(&world, owner, stream, StreamState::Live, EventType::StreamStarted).await;
    // The second event names a tenant that is not there: the whole step is taken back.
    let told = Event::new(owner.clone(), EventType::StreamInterrupted, stream.as_str(), 1, NOW, json!({}));
    let nobodys = Event { organization_id: OrganizationId::from_raw("org_nobody"), ..told.clone() };
    let nobodys = Event { id: crest_core::EventId::from_raw("evt_nobody"), ..nobodys };
    let both = [told.clone(), nobodys];
    let failed: Result<bool, Error> =
        world.store.transition_stream(stream, None, StreamState::Interrupted, None, NOW, &both).await;
    assert!(failed.is_err());
    assert_eq!(positions(&world, owner, 0, 100).await.len(), 1);
    assert!(world.store.transition_stream(stream, None, StreamState::Interrupted, None, NOW, &[told]).await.unwrap());
    let both = [(1, EventType::StreamStarted), (2, EventType::StreamInterrupted)];
    assert_eq!(positions(&world, owner, 0, 100).await, both);
}
