//! What fusion commits, once in effect.

use crest_core::event::EventType;
use crest_core::highlight::{Decision, HighlightState};
use crest_core::job::JobKind;
use crest_core::store::{FusionCommit, HighlightFilter, Highlights, Jobs, Page, Snapshot};
use crest_core::{Session, StreamId};

use crate::world::{NOW, World, page, told};

#[tokio::test]
async fn the_same_commit_twice_is_one_event_one_delivery_one_job() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    let commit = FusionCommit { decisions: vec![world.detected(10), world.finalized(10, 2)], ..Default::default() };
    world.store.commit_fusion(&commit, NOW).await.unwrap();
    let before = world.deliveries_of(&endpoint).await;
    world.store.commit_fusion(&commit, NOW.plus_millis(9)).await.unwrap();
    assert_eq!(world.deliveries_of(&endpoint).await, before);
    assert_eq!(before.iter().map(|d| d.sequence).collect::<Vec<_>>(), [2, 1], "newest first");

    let until = NOW.plus_millis(1000);
    let job = world.store.lease_job(JobKind::Clip, NOW, until).await.unwrap().unwrap();
    assert_eq!(job.subject, world.highlight(10, HighlightState::Final, 1).id.to_string());
    assert_eq!(world.store.lease_job(JobKind::Clip, NOW, until).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_read_is_what_was_decided() {
    let world = World::new().await;
    world.commit(vec![world.detected(10)]).await;
    let (decision, _) = world.finalized(10, 2);
    world
        .store
        .commit_fusion(
            &FusionCommit { decisions: vec![(decision.clone(), None)], ..Default::default() },
            NOW.plus_millis(700),
        )
        .await
        .unwrap();
    let id = &decision.highlight().id;
    let stored = world.store.highlight(&world.organization, id).await.unwrap().unwrap();
    assert_eq!(&stored.highlight, decision.highlight());
    assert_eq!((stored.session_started_at, stored.detected_at), (NOW, NOW));
    assert_eq!((stored.clip, stored.clip_start), (None, None));
}

#[tokio::test]
async fn an_older_or_illegal_decision_changes_nothing_and_tells_nobody() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    world.commit(vec![world.detected(10), world.finalized(10, 3)]).await;
    let mut late = world.highlight(10, HighlightState::Provisional, 9);
    late.score = 0.1;
    let event = told(&late, EventType::HighlightUpdated);
    world.commit(vec![(Decision::Updated { highlight: late }, Some(event)), world.deleted(10, 3)]).await;
    assert_eq!(world.state_of(10).await, HighlightState::Final);
    assert_eq!(world.deliveries_of(&endpoint).await.len(), 2);
    world.commit(vec![world.deleted(10, 4)]).await;
    assert_eq!(world.state_of(10).await, HighlightState::Deleted);
    assert_eq!(world.deliveries_of(&endpoint).await.len(), 3);
}

#[tokio::test]
async fn a_deleted_highlight_gets_no_clip() {
    let world = World::new().await;
    world.commit(vec![world.detected(10), world.finalized(10, 2)]).await;
    world.commit(vec![world.deleted(10, 3)]).await;
    assert_eq!(world.store.lease_job(JobKind::Clip, NOW, NOW.plus_millis(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_decision_about_an_unknown_session_does_not_stop_the_others() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    let mut stray = world.highlight(50, HighlightState::Provisional, 1);
    stray.session = Session::new(8);
    let event = told(&stray, EventType::HighlightDetected);
    world.commit(vec![(Decision::Detected { highlight: stray }, Some(event)), world.detected(10)]).await;
    assert_eq!(world.deliveries_of(&endpoint).await.len(), 1);
    assert_eq!(world.state_of(10).await, HighlightState::Provisional);
}

#[tokio::test]
async fn fusion_finds_its_memory_again() {
    let world = World::new().await;
    assert_eq!(world.store.fusion_state().await.unwrap(), (vec![], None));
    let snapshot = |position: u64, state: &[u8]| Snapshot {
        stream_id: world.stream.clone(),
        position,
        version: 1,
        state: state.to_vec(),
    };
    for (position, state) in [(7, b"old"), (9, b"new")] {
        let commit = FusionCommit {
            snapshots: vec![snapshot(position, state)],
            position: Some(position - 1),
            ..Default::default()
        };
        world.store.commit_fusion(&commit, NOW).await.unwrap();
    }
    assert_eq!(world.after_a_kill().await.fusion_state().await.unwrap(), (vec![snapshot(9, b"new")], Some(8)));
    let over = FusionCommit { finished: vec![world.stream.clone()], position: Some(20), ..Default::default() };
    world.store.commit_fusion(&over, NOW).await.unwrap();
    assert_eq!(world.store.fusion_state().await.unwrap(), (vec![], Some(20)));
}

#[tokio::test]
async fn lists_filter_and_page() {
    let world = World::new().await;
    for n in 0..5 {
        let commit = FusionCommit { decisions: vec![world.detected(n * 100)], ..Default::default() };
        world.store.commit_fusion(&commit, NOW.plus_millis(n / 2)).await.unwrap();
    }
    world.commit(vec![world.deleted(200, 2), world.finalized(300, 2)]).await;
    let list = async |filter: &HighlightFilter, page: &Page| {
        world.store.highlights(&world.organization, filter, page).await.unwrap()
    };
    let all = list(&HighlightFilter::default(), &page(50)).await.items;
    assert_eq!(all.len(), 4, "the deleted one is left out");
    assert!(all.is_sorted_by(|a, b| a.detected_at >= b.detected_at), "newest first");
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let part = list(&HighlightFilter::default(), &Page { after, limit: 1 }).await;
        paged.extend(part.items);
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
    let by = |stream: Option<&StreamId>, state| HighlightFilter { stream: stream.cloned(), state };
    assert_eq!(list(&by(None, Some(HighlightState::Deleted)), &page(50)).await.items.len(), 1);
    assert_eq!(list(&by(Some(&world.stream), Some(HighlightState::Final)), &page(50)).await.items.len(), 1);
    assert_eq!(list(&by(Some(&StreamId::from_raw("str_b")), None), &page(50)).await.items.len(), 0);
}
