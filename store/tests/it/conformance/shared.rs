//! What survives, and what many at once come to.

use crest_core::highlight::HighlightState;

use super::world::{NOW, World, page};

#[tokio::test]
async fn what_was_committed_survives_a_kill() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    world.commit(vec![world.detected(10), world.finalized(10, 2)]).await;
    let after = world.home.after_a_kill().await;
    after.ping().await.unwrap();
    let id = world.highlight(10, HighlightState::Final, 2).id;
    let stored = after.highlight(&world.organization, &id).await.unwrap().unwrap();
    assert_eq!(stored, world.store.highlight(&world.organization, &id).await.unwrap().unwrap());
    let survivors = after.deliveries(&world.organization, &endpoint.id, None, &page(10)).await.unwrap();
    assert_eq!(survivors.items, world.deliveries_of(&endpoint).await);
    assert_eq!(survivors.items.len(), 2);
}

#[tokio::test]
async fn many_writers_at_once_all_get_through() {
    let world = World::new().await;
    let writers = (0..40).map(|n| {
        let store = world.store.clone();
        tokio::spawn(async move { store.create_organization("tenant", &format!("crest_sk_{n}"), NOW).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert!(world.store.organization_of_key("crest_sk_39").await.unwrap().is_some());
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_leaves_the_store_as_usable_as_before() {
    let world = World::new().await;
    for n in 0..60 {
        let calls = (0..12).map(|m| {
            let store = world.store.clone();
            tokio::spawn(async move { store.create_organization("tenant", &format!("crest_sk_{n}_{m}"), NOW).await })
        });
        let calls: Vec<_> = calls.collect();
        // They are dropped wherever they are: waiting, beginning, in the middle, committing.
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        calls.iter().for_each(tokio::task::JoinHandle::abort);
    }
    world.commit(vec![world.detected(10)]).await;
    assert_eq!(world.state_of(10).await, HighlightState::Provisional);
    world.store.ping().await.unwrap();
}
