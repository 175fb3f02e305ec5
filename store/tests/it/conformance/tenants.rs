//! Tenants, their keys, and that they do not see each other.

use crest_core::Fault;
use crest_core::highlight::HighlightState;
use crest_core::store::HighlightFilter;

use super::world::{NOW, World, page};

#[tokio::test]
async fn the_operator_is_made_once_and_gains_keys() {
    let world = World::new().await;
    let store = &world.store;
    assert_eq!(store.bootstrap(None, NOW).await.unwrap(), None);
    let operator = store.bootstrap(Some("crest_sk_one"), NOW).await.unwrap().unwrap();
    assert!(operator.operator);
    assert_eq!(store.bootstrap(Some("crest_sk_one"), NOW).await.unwrap().as_ref(), Some(&operator));
    assert_eq!(store.bootstrap(Some("crest_sk_two"), NOW).await.unwrap().as_ref(), Some(&operator));
    assert_eq!(store.bootstrap(None, NOW).await.unwrap().as_ref(), Some(&operator));
    for key in ["crest_sk_one", "crest_sk_two"] {
        assert_eq!(store.organization_of_key(key).await.unwrap().as_ref(), Some(&operator));
    }
    assert_eq!(store.organization_of_key("crest_sk_three").await.unwrap(), None);
}

#[tokio::test]
async fn a_key_opens_one_tenant_only() {
    let world = World::new().await;
    let taken = world.store.create_organization("other", "crest_sk_acme", NOW).await.unwrap_err();
    assert_eq!(taken.fault, Fault::Conflict);
    let taken = world.store.bootstrap(Some("crest_sk_acme"), NOW).await.unwrap_err();
    assert_eq!(taken.fault, Fault::Conflict);
    assert_eq!(world.store.bootstrap(None, NOW).await.unwrap(), None, "the refused start left nothing behind");
}

#[tokio::test]
async fn a_tenant_asked_for_again_with_its_key_is_the_same() {
    let world = World::new().await;
    let again = world.store.create_organization("acme", "crest_sk_acme", NOW.plus_millis(9)).await.unwrap();
    assert_eq!((again.id, again.operator), (world.organization.clone(), false));
    assert_eq!(world.home.count("organizations").await, 1);
}

#[tokio::test]
async fn another_tenant_sees_and_touches_nothing() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    world.commit(vec![world.detected(10)]).await;
    let other = world.store.create_organization("other", "crest_sk_other", NOW).await.unwrap().id;
    let store = &world.store;

    assert_eq!(store.stream(&other, &world.stream).await.unwrap(), None);
    assert!(store.streams(&other, &page(10)).await.unwrap().items.is_empty());
    let id = world.highlight(10, HighlightState::Final, 1).id;
    assert_eq!(store.highlight(&other, &id).await.unwrap(), None);
    let filter = HighlightFilter { stream: Some(world.stream.clone()), state: None };
    assert!(store.highlights(&other, &filter, &page(10)).await.unwrap().items.is_empty());
    assert_eq!(store.endpoint(&other, &endpoint.id).await.unwrap(), None);
    assert!(store.endpoints(&other, &page(10)).await.unwrap().items.is_empty());
    assert!(store.deliveries(&other, &endpoint.id, None, &page(10)).await.unwrap().items.is_empty());
    assert!(!store.delete_endpoint(&other, &endpoint.id).await.unwrap());

    assert_eq!(world.deliveries_of(&endpoint).await.len(), 1, "the owner still has it all");
}
