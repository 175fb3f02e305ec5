//! What is long over goes; what is needed stays, however old.

use crest_core::event::EventType;
use crest_core::highlight::{Decision, HighlightState};
use crest_core::job::JobKind;
use crest_core::store::{ClipResult, Pruned};
use crest_core::stream::StreamState;
use crest_core::webhook::{AttemptOutcome, DeliveryOrder, DeliveryState};
use crest_core::{Error, MediaTime, WallTime};

use super::world::{NOW, World, told};

/// A time at which everything of [`NOW`] is old.
const LATER: WallTime = WallTime(NOW.0 + 1);

const ORDER: DeliveryOrder = DeliveryOrder { attempts: 4, millis: 600_000, per_organization: 8 };

/// A highlight from its detection to its clip.
async fn whole_highlight(world: &World, entry: i64) {
    world.commit(vec![world.detected(entry), world.finalized(entry, 2)]).await;
    let job = world.store.lease_job(JobKind::Clip, NOW, NOW.plus_millis(1000)).await.unwrap().unwrap();
    let ready = world.highlight(entry, HighlightState::Ready, 3);
    let clip = ClipResult {
        clip: Some("a.mp4".into()),
        thumbnail: None,
        clip_start: MediaTime::from_millis(0),
        clip_duration: MediaTime::from_millis(1000),
    };
    world.store.finish_clip(&job, &clip, &told(&ready, EventType::HighlightReady)).await.unwrap();
}

/// Sends everything that is due, with one answer for all.
async fn deliver(world: &World, status: u16) {
    loop {
        let leased = world.store.lease_deliveries(NOW, NOW.plus_millis(1000), 10, &ORDER).await.unwrap();
        if leased.is_empty() {
            return;
        }
        for one in leased {
            let outcome = match status {
                200 => AttemptOutcome::Delivered { status },
                _ => AttemptOutcome::GaveUp { reason: status.to_string() },
            };
            world.store.finish_attempt(&one, &outcome, NOW).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_over_goes_and_highlights_stay() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    for state in [StreamState::Live, StreamState::Interrupted, StreamState::Live] {
        world.store.transition_stream(&world.stream, None, state, None, NOW, &[]).await.unwrap();
    }
    whole_highlight(&world, 10).await;
    deliver(&world, 200).await;
    // Not old enough yet.
    assert_eq!(world.store.prune(NOW, 100).await.unwrap(), Pruned::default());
    let gone = world.store.prune(LATER, 100).await.unwrap();
    assert_eq!(gone, Pruned { events: 3, deliveries: 3, jobs: 1, steps: 2, more: false });
    assert_eq!(world.deliveries_of(&endpoint).await, []);
    assert_eq!(world.state_of(10).await, HighlightState::Ready);
    // The last step stays, and the next counts on from it.
    world.store.transition_stream(&world.stream, None, StreamState::Ended, None, LATER, &[]).await.unwrap();
    assert_eq!(world.home.count("stream_history WHERE step IN (3, 4)").await, 2);
    assert_eq!(world.home.count("stream_history").await, 2);
}

#[tokio::test]
async fn what_a_pending_delivery_needs_stays_and_so_do_its_neighbours_sequences() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    whole_highlight(&world, 10).await;
    // The first arrives, the second waits for its turn, the third behind it.
    let first = world.store.lease_deliveries(NOW, NOW.plus_millis(1000), 1, &ORDER).await.unwrap().remove(0);
    let arrived = AttemptOutcome::Delivered { status: 204 };
    world.store.finish_attempt(&first, &arrived, NOW).await.unwrap();

    let gone = world.store.prune(LATER, 100).await.unwrap();
    assert_eq!((gone.events, gone.deliveries), (1, 1));
    let left = world.deliveries_of(&endpoint).await;
    assert_eq!(left.iter().map(|d| d.sequence).collect::<Vec<_>>(), [3, 2]);
    assert!(left.iter().all(|d| d.state == DeliveryState::Pending));
    // Once they are through, one as failed, they go too.
    deliver(&world, 500).await;
    let gone = world.store.prune(LATER, 100).await.unwrap();
    assert_eq!((gone.events, gone.deliveries), (2, 2));
    // What comes next counts on.
    whole_highlight(&world, 40).await;
    let next: Vec<u64> = world.deliveries_of(&endpoint).await.iter().map(|d| d.sequence).collect();
    assert_eq!(next, [6, 5, 4]);
    let read = world.store.events_after(&world.organization, 0, 10).await.unwrap();
    assert_eq!(read.iter().map(|e| e.position).collect::<Vec<_>>(), [4, 5, 6]);
}

#[tokio::test]
async fn what_is_derived_again_after_pruning_is_not_told_again() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    whole_highlight(&world, 10).await;
    deliver(&world, 200).await;
    world.store.prune(LATER, 100).await.unwrap();
    world.commit(vec![world.detected(10), world.finalized(10, 2)]).await;
    assert_eq!(world.deliveries_of(&endpoint).await, []);
    assert_eq!(world.store.events_after(&world.organization, 0, 10).await.unwrap(), []);
    assert_eq!(world.home.count("jobs").await, 0, "no clip is cut again");
    let lost = world.store.cancel_job(&crest_core::JobId::derive("clip", "x"), "").await;
    assert!(matches!(lost, Err(Error { .. })));
}

#[tokio::test]
async fn the_detection_of_an_unfinished_highlight_stays_for_those_who_are_told_late() {
    let world = World::new().await;
    let mut endpoint = world.add_endpoint("unused").await;
    endpoint.id = crest_core::EndpointId::from_raw("whe_picky");
    endpoint.min_score = Some(0.9);
    endpoint.created_at = NOW.plus_millis(-1);
    world.store.create_endpoint(&endpoint).await.unwrap();
    world.commit(vec![world.detected(10)]).await;
    deliver(&world, 200).await;
    assert_eq!(world.store.prune(LATER, 100).await.unwrap().events, 0);
    // The score passes its limit only now; still, the detection is told first.
    let mut highlight = world.highlight(10, HighlightState::Final, 2);
    highlight.score = 0.95;
    let event = told(&highlight, EventType::HighlightUpdated);
    world.commit(vec![(Decision::Finalized { highlight }, Some(event))]).await;
    let told: Vec<_> = world.deliveries_of(&endpoint).await.iter().map(|d| d.event_type).collect();
    assert_eq!(told, [EventType::HighlightUpdated, EventType::HighlightDetected]);
}

#[tokio::test]
async fn a_round_removes_no_more_than_it_may() {
    let world = World::new().await;
    for entry in 0..4 {
        whole_highlight(&world, entry * 20).await;
    }
    let first = world.store.prune(LATER, 5).await.unwrap();
    assert_eq!((first.events, first.jobs, first.more), (5, 4, true));
    let mut events = first.events;
    loop {
        let round = world.store.prune(LATER, 5).await.unwrap();
        events += round.events;
        if !round.more {
            break;
        }
    }
    assert_eq!(events, 12);
}
