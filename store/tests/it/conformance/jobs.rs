//! Clip jobs: leases and what they leave.

use crest_core::event::{Event, EventType};
use crest_core::highlight::{HighlightState, StoredHighlight};
use crest_core::job::{Job, JobKind};
use crest_core::store::ClipResult;
use crest_core::{Fault, JobId, MediaTime, WallTime};

use super::world::{NOW, World, told};

const LEASE_MS: i64 = 1000;

async fn lease(world: &World, now: WallTime) -> Option<Job> {
    world.store.lease_job(JobKind::Clip, now, now.plus_millis(LEASE_MS)).await.unwrap()
}

fn result(clip: &str) -> ClipResult {
    ClipResult {
        clip: Some(clip.into()),
        thumbnail: None,
        clip_start: MediaTime::from_millis(9000),
        clip_duration: MediaTime::from_millis(12_000),
    }
}

fn ended(world: &World, event_type: EventType, revision: u64) -> Event {
    told(&world.highlight(10, HighlightState::Ready, revision), event_type)
}

async fn stored(world: &World) -> StoredHighlight {
    let id = world.highlight(10, HighlightState::Final, 1).id;
    world.store.highlight(&world.organization, &id).await.unwrap().unwrap()
}

async fn with_a_job() -> World {
    let world = World::new().await;
    world.commit(vec![world.detected(10), world.finalized(10, 2)]).await;
    world
}

#[tokio::test]
async fn a_job_comes_back_when_its_lease_runs_out() {
    let world = with_a_job().await;
    let first = lease(&world, NOW).await.unwrap();
    assert_eq!((first.attempt, &first.organization_id), (1, &world.organization));
    assert_eq!(lease(&world, NOW.plus_millis(LEASE_MS - 1)).await, None);
    let second = lease(&world, NOW.plus_millis(LEASE_MS)).await.unwrap();
    assert_eq!((second.attempt, &second.id), (2, &first.id));
    assert_eq!(world.store.lease_job(JobKind::Batch, NOW, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn a_job_that_is_worked_on_is_leased_for_longer() {
    let world = with_a_job().await;
    let job = lease(&world, NOW).await.unwrap();
    let later = NOW.plus_millis(3 * LEASE_MS);
    for _ in 0..2 {
        assert!(world.store.renew_job(&job, later).await.unwrap(), "as often as its answer gets lost");
    }
    assert_eq!(lease(&world, NOW.plus_millis(LEASE_MS)).await, None);
    // The lease that it was is over: it is known by its end.
    assert!(!world.store.renew_job(&job, later.plus_millis(1)).await.unwrap());
    let job = Job { leased_until: later, ..job };
    let other = lease(&world, later).await.unwrap();
    assert!(!world.store.renew_job(&job, later.plus_millis(1)).await.unwrap(), "another worker has it");
    world.store.finish_clip(&other, &result("a.mp4"), &ended(&world, EventType::HighlightReady, 3)).await.unwrap();
    assert!(!world.store.renew_job(&other, later.plus_millis(1)).await.unwrap(), "it is done");
}

#[tokio::test]
async fn a_job_put_back_waits_for_its_time() {
    let world = with_a_job().await;
    let job = lease(&world, NOW).await.unwrap();
    let at = NOW.plus_millis(5000);
    world.store.requeue_job(&job, at, "media not there yet", false).await.unwrap();
    assert_eq!(lease(&world, NOW.plus_millis(4999)).await, None);
    let job = lease(&world, at).await.unwrap();
    assert_eq!(job.attempt, 1, "waiting is no attempt");
    world.store.requeue_job(&job, at, "could not be cut", true).await.unwrap();
    assert_eq!(lease(&world, at).await.unwrap().attempt, 2);
}

#[tokio::test]
async fn whoever_lost_the_lease_neither_puts_the_job_back_nor_gives_it_up() {
    let world = with_a_job().await;
    let endpoint = world.add_endpoint("a").await;
    let slow = lease(&world, NOW).await.unwrap();
    let quick = lease(&world, NOW.plus_millis(LEASE_MS)).await.unwrap();
    world.store.requeue_job(&slow, NOW, "too late", true).await.unwrap();
    let failed = ended(&world, EventType::HighlightFailed, 3);
    world.store.fail_clip(&slow, "too late", &failed).await.unwrap();
    assert_eq!(lease(&world, NOW.plus_millis(LEASE_MS)).await, None, "the other still has it");
    assert_eq!(stored(&world).await.highlight.state, HighlightState::Final);
    assert!(world.deliveries_of(&endpoint).await.is_empty());
    // What it made is as good as any.
    world.store.finish_clip(&slow, &result("slow.mp4"), &ended(&world, EventType::HighlightReady, 3)).await.unwrap();
    world.store.finish_clip(&quick, &result("quick.mp4"), &ended(&world, EventType::HighlightReady, 3)).await.unwrap();
    assert_eq!(stored(&world).await.clip.as_deref(), Some("slow.mp4"));
    assert_eq!(world.deliveries_of(&endpoint).await.len(), 1);
}

#[tokio::test]
async fn a_clip_is_told_once_however_often_it_is_finished() {
    let world = with_a_job().await;
    let endpoint = world.add_endpoint("a").await;
    let slow = lease(&world, NOW).await.unwrap();
    let quick = lease(&world, NOW.plus_millis(LEASE_MS)).await.unwrap();
    let ready = ended(&world, EventType::HighlightReady, 3);
    world.store.finish_clip(&quick, &result("quick.mp4"), &ready).await.unwrap();
    let late = Event { timestamp: NOW.plus_millis(1), ..ready.clone() };
    world.store.finish_clip(&slow, &result("slow.mp4"), &late).await.unwrap();
    let failed = ended(&world, EventType::HighlightFailed, 3);
    world.store.fail_clip(&slow, "gave up", &failed).await.unwrap();
    world.store.requeue_job(&slow, NOW, "again", true).await.unwrap();

    let after = stored(&world).await;
    assert_eq!((after.highlight.state, after.highlight.revision), (HighlightState::Ready, 3));
    assert_eq!((after.clip.as_deref(), after.thumbnail), (Some("quick.mp4"), None));
    assert_eq!(after.clip_start, Some(MediaTime::from_millis(9000)));
    assert_eq!(after.clip_duration, Some(MediaTime::from_millis(12_000)));
    let deliveries = world.deliveries_of(&endpoint).await;
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].body, ready.body(1));
    assert_eq!(lease(&world, NOW.plus_millis(99_999)).await, None);
}

#[tokio::test]
async fn a_failed_clip_says_why() {
    let world = with_a_job().await;
    let endpoint = world.add_endpoint("a").await;
    let job = lease(&world, NOW).await.unwrap();
    let failed = ended(&world, EventType::HighlightFailed, 3);
    world.store.fail_clip(&job, "its media is gone", &failed).await.unwrap();
    let after = stored(&world).await.highlight;
    assert_eq!((after.state, after.reason.as_deref()), (HighlightState::Failed, Some("its media is gone")));
    assert_eq!(world.deliveries_of(&endpoint).await.len(), 1);
}

#[tokio::test]
async fn a_highlight_deleted_while_it_is_cut_stays_deleted() {
    let world = with_a_job().await;
    let job = lease(&world, NOW).await.unwrap();
    world.commit(vec![world.deleted(10, 3)]).await;
    let endpoint = world.add_endpoint("a").await;
    world.store.finish_clip(&job, &result("x.mp4"), &ended(&world, EventType::HighlightReady, 4)).await.unwrap();
    let after = stored(&world).await;
    assert_eq!((after.highlight.state, after.clip), (HighlightState::Deleted, None));
    assert!(world.deliveries_of(&endpoint).await.is_empty());
}

#[tokio::test]
async fn a_cancelled_job_is_not_done_and_an_unknown_one_not_found() {
    let world = with_a_job().await;
    let id = JobId::derive("clip", world.highlight(10, HighlightState::Final, 1).id.as_str());
    world.store.cancel_job(&id, "not wanted").await.unwrap();
    assert_eq!(lease(&world, NOW).await, None);
    let unknown = world.store.cancel_job(&JobId::from_raw("job_no"), "").await.unwrap_err();
    assert_eq!(unknown.fault, Fault::NotFound);
}
