//! What SQLite has from its one writer holds here under many processes: each test opens several stores.

use crest_core::event::{Event, EventType};
use crest_core::store::{Committed, FusionCommit, SharedStore};
use crest_core::stream::StreamState;
use crest_core::webhook::{DeliveryOrder, Endpoint};
use crest_core::{EndpointId, MediaTime, OrganizationId, Session};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

use super::many::{all, decided, hold, processes, take, tenants, until_waiting};
use super::world::{FIRST, NOW, World, instance};

const ORDER: DeliveryOrder = DeliveryOrder { attempts: 4, millis: 600_000, per_organization: 8 };

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn positions_and_sequences_count_without_a_gap_in_the_order_of_the_commits() {
    const TENANTS: usize = 4;
    const COMMITS: i64 = 25;
    let world = World::new().await;
    let tenants = tenants(&world, TENANTS).await;
    let stores = processes(&world, 4).await;
    let owned: Vec<_> = tenants.iter().map(|(owner, stream, _)| (owner.clone(), stream.clone())).collect();

    // Whoever reads on meanwhile never meets a position whose predecessor is yet to come.
    let (reader, watched) = (world.store.clone(), owned.clone());
    let reading = tokio::spawn(async move {
        let mut last: BTreeMap<OrganizationId, u64> = BTreeMap::new();
        let expected = 4 * COMMITS as u64;
        while last.len() < watched.len() || last.values().any(|position| *position < expected) {
            for (owner, _) in &watched {
                let after = last.get(owner).copied().unwrap_or(0);
                for event in reader.events_after(owner, after, 7).await.unwrap() {
                    let next = last.entry(owner.clone()).or_default();
                    assert_eq!(event.position, *next + 1, "of {owner}");
                    *next = event.position;
                }
            }
        }
    });
    let mut tasks = Vec::new();
    for (n, store) in stores.iter().cloned().enumerate() {
        let partition = u32::try_from(n).unwrap();
        let claim = store.claim_partition(partition, &instance("one"), NOW).await.unwrap().claim;
        // Each names the tenants in another order.
        let mut streams = owned.clone();
        streams.rotate_left(n);
        if n % 2 == 1 {
            streams.reverse();
        }
        let entries = (0..COMMITS).map(|round| round * 100 + 10 * n as i64);
        let commits: Vec<_> = entries.map(|entry| FusionCommit { claim, ..decided(&world, &streams, entry) }).collect();
        tasks.push(async move {
            for commit in commits {
                assert_eq!(store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
            }
        });
    }
    all(tasks).await;
    reading.await.unwrap();

    for (owner, _, endpoint) in &tenants {
        let mut sent = world.store.deliveries(owner, &endpoint.id, None, &super::world::page(500)).await.unwrap().items;
        sent.reverse();
        let told = world.store.events_after(owner, 0, 500).await.unwrap();
        assert_eq!(told.len(), 4 * COMMITS as usize);
        let positions: Vec<_> = told.iter().map(|e| (e.position, &e.event.id)).collect();
        let sequences: Vec<_> = sent.iter().map(|d| (d.sequence, &d.event_id)).collect();
        assert_eq!(positions, sequences, "both count from 1, in one order");
    }
    for store in stores {
        store.close().await;
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let deadlocks: i64 = sqlx::query_scalar(deadlocks).fetch_one(&mut world.home.raw().await).await.unwrap();
    assert_eq!(deadlocks, 0, "they were only retried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_start_at_once_are_different_ones() {
    let world = World::new().await;
    let start = |(n, store): (usize, SharedStore)| {
        let stream = world.stream.clone();
        async move { store.start_session(&stream, NOW, &instance(&format!("instance {n}"))).await.unwrap() }
    };
    let stores = processes(&world, 4).await;
    let started = all(stores.iter().cycle().take(20).cloned().enumerate().map(start)).await;
    let started: BTreeSet<Session> = started.into_iter().collect();
    assert_eq!(started, (2..=21).map(Session::new).collect());
    let rows = world.store.sessions(&world.stream).await.unwrap();
    let open: Vec<_> = rows.iter().filter(|row| row.ended_at.is_none()).map(|row| row.session).collect();
    assert_eq!(open, [Session::new(21)], "all but the last are over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_those_who_step_a_stream_at_once_does_it() {
    let world = World::new().await;
    let (owner, stream) = (&world.organization, &world.stream);
    let endpoint = world.add_endpoint("a").await;
    let stores = processes(&world, 4).await;
    for (round, to) in [StreamState::Live, StreamState::Interrupted, StreamState::Live].into_iter().enumerate() {
        let revision = round as u64;
        let event = Event::new(owner.clone(), EventType::StreamStarted, stream.as_str(), revision, NOW, json!({}));
        let step = |store: SharedStore| {
            let (stream, event) = (stream.clone(), event.clone());
            async move { store.transition_stream(&stream, None, to, None, NOW, &[event]).await.unwrap() }
        };
        let stepped = all(stores.iter().cycle().take(12).cloned().map(step)).await;
        assert_eq!(stepped.iter().filter(|stepped| **stepped).count(), 1);
    }
    assert_eq!(world.home.history().await.len(), 3);
    assert_eq!(world.deliveries_of(&endpoint).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_find_one_operator() {
    let world = World::new().await;
    let stores = processes(&world, 4).await;
    let start = |(n, store): (usize, SharedStore)| async move {
        let key = format!("crest_sk_{}", n % 3);
        store.bootstrap(Some(&key), NOW).await.unwrap().unwrap().id
    };
    let found = all(stores.iter().cycle().take(12).cloned().enumerate().map(start)).await;
    assert!(found.iter().all(|id| *id == found[0]), "{found:?}");
    for n in 0..3 {
        let of_key = world.store.organization_of_key(&format!("crest_sk_{n}")).await.unwrap();
        assert_eq!(of_key.map(|o| o.id).as_ref(), Some(&found[0]));
    }
    assert_eq!(world.home.count("organizations WHERE operator").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn endpoints_come_and_go_and_old_rows_are_removed_while_events_are_committed() {
    let world = World::new().await;
    let keep = world.add_endpoint("keep").await;
    let stores = processes(&world, 3).await;
    let commits: Vec<_> = (0..40).map(|n| world.decided(vec![world.detected(n * 20)])).collect();
    let committing = {
        let store = stores[0].clone();
        tokio::spawn(async move {
            for commit in commits {
                assert_eq!(store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
            }
        })
    };
    let (come_and_go, prune) = (stores[1].clone(), stores[2].clone());
    let passing = Endpoint { id: EndpointId::from_raw("whe_passing"), ..keep.clone() };
    let passing = tokio::spawn(async move {
        for _ in 0..20 {
            come_and_go.create_endpoint(&passing).await.unwrap();
            come_and_go.lease_deliveries(NOW, NOW.plus_millis(1000), 10, &ORDER).await.unwrap();
            assert!(come_and_go.delete_endpoint(&passing.organization_id, &passing.id).await.unwrap());
        }
    });
    let pruning = tokio::spawn(async move {
        for _ in 0..20 {
            prune.prune(NOW.plus_millis(1), 5).await.unwrap();
        }
    });
    for task in [committing, passing, pruning] {
        task.await.unwrap();
    }
    let sequences: Vec<u64> = world.deliveries_of(&keep).await.iter().map(|d| d.sequence).collect();
    assert_eq!(sequences, (1..=40).rev().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_segment_is_forgotten_whole_while_fragments_are_added() {
    let world = World::new().await;
    let stores = processes(&world, 2).await;
    for round in 0..20 {
        let add = |(n, store): (i64, SharedStore)| {
            let fragment = world.fragment("one.mp4", 100 + 1000 * n as u64, n, n + 1, true);
            async move { store.add_fragment(&fragment).await.unwrap() }
        };
        let adding = all((0..6).zip(stores.iter().cycle().cloned()).map(add));
        let (_, forgotten) = tokio::join!(adding, world.store.forget_segment("one.mp4"));
        forgotten.unwrap();
        let fragments = world.home.count("fragments").await;
        let bytes: Option<i64> = sqlx::query_scalar("SELECT bytes::bigint FROM segments")
            .fetch_optional(&mut world.home.everybodys().await)
            .await
            .unwrap();
        assert_eq!(bytes.unwrap_or(0), if fragments == 0 { 0 } else { 100 + 1000 * fragments }, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_waits_for_the_commit_under_way_and_then_has_it() {
    let world = World::new().await;
    let stores = processes(&world, 2).await;
    let mut other = hold(&world, &world.organization).await;
    let commit = FusionCommit {
        snapshots: vec![world.snapshot(7, b"kept")],
        offset: Some(7),
        ..world.decided(vec![world.detected(10)])
    };
    let committing = {
        let (store, commit) = (stores[0].clone(), commit.clone());
        tokio::spawn(async move { store.commit_fusion(&commit, NOW).await.unwrap() })
    };
    until_waiting(&world, 1).await;
    let store = stores[1].clone();
    let claiming = tokio::spawn(async move { store.claim_partition(0, &instance("two"), NOW).await.unwrap() });
    until_waiting(&world, 2).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(committing.await.unwrap(), Committed::Kept);
    let claimed = claiming.await.unwrap();
    assert_eq!((claimed.snapshots, claimed.offset), (vec![world.snapshot(7, b"kept")], Some(7)));
    assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Fenced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_is_in_a_deadlock_tries_again() {
    let world = World::new().await;
    let tenants = tenants(&world, 2).await;
    let mut owned: Vec<_> = tenants.iter().map(|(owner, stream, _)| (owner.clone(), stream.clone())).collect();
    owned.sort();
    let (first, last) = (owned[0].0.clone(), owned[1].0.clone());
    let commit = decided(&world, &owned, 10);
    let mut other = hold(&world, &last).await;
    let store = world.store.clone();
    let committing = tokio::spawn(async move { store.commit_fusion(&commit, NOW).await.unwrap() });
    until_waiting(&world, 1).await;
    // It has the first and waits for the last; now this one waits for the first. PostgreSQL ends the one
    // that has waited longer.
    take(&mut other, &first).await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(committing.await.unwrap(), Committed::Kept);
    for (owner, _) in &owned {
        assert_eq!(world.store.events_after(owner, 0, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_reader_sees_one_state_of_everything() {
    let world = World::new().await;
    let second = |s: i64| MediaTime::from_millis(s * 1000);
    for n in 0..50 {
        world
            .store
            .add_fragment(&world.fragment("one.mp4", 100 + 1000 * n, n as i64, n as i64 + 1, n == 0))
            .await
            .unwrap();
    }
    let forgetting = world.store.forget_segment("one.mp4");
    let reading = async {
        loop {
            let found = world.store.fragments(&world.stream, FIRST, second(49), second(50)).await.unwrap();
            // From the keyframe on, or nothing.
            match found.len() {
                50 => {}
                0 => return,
                other => panic!("{other} fragments"),
            }
        }
    };
    let (forgotten, ()) = tokio::join!(forgetting, reading);
    forgotten.unwrap();
}
