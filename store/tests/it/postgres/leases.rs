//! Many workers: each delivery and each job is one's, in order, and of no tenant too many.

use crest_core::EndpointId;
use crest_core::job::JobKind;
use crest_core::store::{Committed, SharedStore};
use crest_core::webhook::{AttemptOutcome, DeliveryOrder};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::many::{all, decided, processes, tenants, until_waiting};
use super::world::{NOW, World};

const ORDER: DeliveryOrder = DeliveryOrder { attempts: 4, millis: 600_000, per_organization: 8 };

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_delivery_is_leased_by_one_worker_and_in_its_endpoints_order() {
    let world = World::new().await;
    let tenants = tenants(&world, 3).await;
    let owned: Vec<_> = tenants.iter().map(|(owner, stream, _)| (owner.clone(), stream.clone())).collect();
    for round in 0..30 {
        let commit = decided(&world, &owned, round * 100);
        assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
    }
    let log: Arc<Mutex<Vec<(EndpointId, u64)>>> = Arc::default();
    let workers = processes(&world, 4).await.into_iter().map(|store| {
        let log = log.clone();
        async move {
            while store.outbox_depth().await.unwrap().0 > 0 {
                for leased in store.lease_deliveries(NOW, NOW.plus_millis(20_000), 2, &ORDER).await.unwrap() {
                    let delivery = &leased.delivery;
                    log.lock().unwrap().push((delivery.endpoint_id.clone(), delivery.sequence));
                    let done = AttemptOutcome::Delivered { status: 200 };
                    store.finish_attempt(&leased, &done, NOW).await.unwrap();
                }
            }
        }
    });
    all(workers.collect::<Vec<_>>()).await;
    for (_, _, endpoint) in &tenants {
        let log = log.lock().unwrap();
        let sent: Vec<u64> = log.iter().filter(|(id, _)| *id == endpoint.id).map(|(_, sequence)| *sequence).collect();
        assert_eq!(sent, (1..=30).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_lease_at_once_a_tenant_has_no_more_under_way_than_it_may() {
    let world = World::new().await;
    for n in 0..30 {
        world.add_endpoint(&format!("{n:02}")).await;
    }
    world.commit(vec![world.detected(10)]).await;
    let stores = processes(&world, 4).await;
    for round in 1..=3 {
        let now = NOW.plus_millis(round * 20_000);
        let lease = |store: SharedStore| async move {
            store.lease_deliveries(now, now.plus_millis(20_000), 100, &ORDER).await.unwrap()
        };
        let leased: Vec<_> = all(stores.iter().cloned().chain(stores.iter().cloned()).map(lease)).await.concat();
        let ids: BTreeSet<_> = leased.iter().map(|l| l.delivery.id.clone()).collect();
        assert_eq!((leased.len(), ids.len()), (8, 8), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_job_is_leased_by_one_worker() {
    let world = World::new().await;
    for entry in 0..30 {
        world.commit(vec![world.finalized(entry * 20, 1)]).await;
    }
    let workers = processes(&world, 4).await.into_iter().map(|store| async move {
        let mut mine = Vec::new();
        while let Some(job) = store.lease_job(JobKind::Clip, NOW, NOW.plus_millis(1000)).await.unwrap() {
            mine.push(job.id);
        }
        mine
    });
    let leased = all(workers.collect::<Vec<_>>()).await.concat();
    assert_eq!((leased.len(), leased.iter().collect::<BTreeSet<_>>().len()), (30, 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_counted_for_a_lease_stays_so_until_it_is_committed() {
    let world = World::new().await;
    world.add_endpoint("a").await;
    world.commit(vec![world.detected(10)]).await;
    // Somebody else is at it, with what only one has at a time.
    let mut other = world.home.everybodys().await;
    let turn = i64::from_be_bytes(*b"crest_ob");
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(turn).execute(&mut other).await.unwrap();
    let store = world.store.clone();
    let leasing = tokio::spawn(async move { store.lease_deliveries(NOW, NOW.plus_millis(1000), 9, &ORDER).await });
    until_waiting(&world, 1).await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(leasing.await.unwrap().unwrap().len(), 1);
}
