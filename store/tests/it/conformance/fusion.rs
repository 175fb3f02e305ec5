//! What fusion commits, once in effect.

use crest_core::event::EventType;
use crest_core::highlight::{Decision, HighlightState};
use crest_core::job::JobKind;
use crest_core::store::{Committed, FusionCommit, HighlightFilter, Page, SharedStore, Snapshot};
use crest_core::trace::Trace;
use crest_core::webhook::DeliveryOrder;
use crest_core::{Session, StreamId};

use super::world::{NOW, World, instance, page, stream_of, told};

#[tokio::test]
async fn the_same_commit_twice_is_one_event_one_delivery_one_job() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    let commit = world.decided(vec![world.detected(10), world.finalized(10, 2)]);
    assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
    let before = world.deliveries_of(&endpoint).await;
    assert_eq!(world.store.commit_fusion(&commit, NOW.plus_millis(9)).await.unwrap(), Committed::Kept);
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
    world.commit_at(vec![(decision.clone(), None)], NOW.plus_millis(700)).await;
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
    let claim = async |store: &SharedStore| store.claim_partition(0, &instance("two"), NOW).await.unwrap();
    let mut claimed = claim(&world.store).await;
    assert_eq!((&claimed.snapshots[..], claimed.offset), (&[][..], None));
    for (offset, state) in [(7, b"old"), (9, b"new")] {
        let commit = FusionCommit {
            snapshots: vec![world.snapshot(offset, state)],
            offset: Some(offset - 1),
            ..FusionCommit::new(claimed.claim)
        };
        assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
    }
    let after = world.home.after_a_kill().await;
    claimed = claim(&after).await;
    assert_eq!((claimed.snapshots, claimed.offset), (vec![world.snapshot(9, b"new")], Some(8)));
    let over =
        FusionCommit { finished: vec![world.stream.clone()], offset: Some(20), ..FusionCommit::new(claimed.claim) };
    assert_eq!(after.commit_fusion(&over, NOW).await.unwrap(), Committed::Kept);
    claimed = claim(&after).await;
    assert_eq!((claimed.snapshots, claimed.offset), (vec![], Some(20)));
}

#[tokio::test]
async fn a_claim_ends_when_somebody_else_makes_one() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    let later = world.store.claim_partition(0, &instance("two"), NOW).await.unwrap().claim;
    assert_eq!((later.partition, later.epoch), (0, world.claim.epoch + 1));
    let mut commit = FusionCommit {
        snapshots: vec![world.snapshot(7, b"old")],
        offset: Some(7),
        ..world.decided(vec![world.detected(10), world.finalized(10, 2)])
    };
    assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Fenced);
    // Nothing of it is kept.
    assert!(world.deliveries_of(&endpoint).await.is_empty());
    for table in ["highlights", "events", "jobs", "fusion_snapshots"] {
        assert_eq!(world.home.count(table).await, 0, "{table}");
    }
    let held = world.store.claim_partition(0, &instance("three"), NOW).await.unwrap();
    assert_eq!((held.snapshots, held.offset), (vec![], None));
    commit.claim = held.claim;
    assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
    // Nor does a claim that nobody made hold.
    commit.claim.partition = 5;
    assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Fenced);
}

#[tokio::test]
async fn partitions_are_claimed_apart_and_keep_their_own() {
    let world = World::new().await;
    let other = StreamId::from_raw("str_b");
    world.store.create_stream(&stream_of(&world.organization, &other, NOW)).await.unwrap();
    let third = world.store.claim_partition(3, &instance("two"), NOW).await.unwrap().claim;
    assert_eq!((third.partition, third.epoch), (3, 1));
    let snapshot = Snapshot { stream_id: other, ..world.snapshot(1, b"three") };
    let of_third = FusionCommit { snapshots: vec![snapshot.clone()], offset: Some(2), ..FusionCommit::new(third) };
    let of_zero = FusionCommit { snapshots: vec![world.snapshot(8, b"zero")], ..FusionCommit::new(world.claim) };
    for commit in [of_third, of_zero] {
        assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
    }
    let zero = world.store.claim_partition(0, &instance("one"), NOW).await.unwrap();
    assert_eq!((zero.snapshots, zero.offset), (vec![world.snapshot(8, b"zero")], None));
    let three = world.store.claim_partition(3, &instance("one"), NOW).await.unwrap();
    assert_eq!((three.snapshots, three.offset), (vec![snapshot], Some(2)));
    assert_eq!(world.home.fusion_reached().await, Some(8));
}

#[tokio::test]
async fn the_trace_of_a_decision_goes_with_its_event_its_deliveries_and_its_job() {
    let world = World::new().await;
    world.add_endpoint("a").await;
    let (found, cut) = (Trace::new([1; 16], [1; 8]), Trace::new([2; 16], [2; 8]));
    let mut commit = world.decided(vec![world.detected(10), world.finalized(10, 2)]);
    commit.decisions[0].trace = Some(found);
    commit.decisions[1].trace = Some(cut);
    assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
    let told = world.store.events_after(&world.organization, 0, 10).await.unwrap();
    assert_eq!(told.iter().map(|e| e.event.trace).collect::<Vec<_>>(), [Some(found), Some(cut)]);
    let until = NOW.plus_millis(1000);
    let job = world.store.lease_job(JobKind::Clip, NOW, until).await.unwrap().unwrap();
    assert_eq!((job.trace, job.leased_until), (Some(cut), until));
    let order = DeliveryOrder { attempts: 4, millis: 600_000, per_organization: 8 };
    let leased = world.store.lease_deliveries(NOW, until, 10, &order).await.unwrap();
    assert_eq!(leased.iter().map(|l| (l.trace, l.leased_until)).collect::<Vec<_>>(), [(Some(found), until)]);
}

#[tokio::test]
async fn lists_filter_and_page() {
    let world = World::new().await;
    for n in 0..5 {
        world.commit_at(vec![world.detected(n * 100)], NOW.plus_millis(n / 2)).await;
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
