//! The processes that share a database.

use crest_core::WallTime;
use crest_core::feeds::Addresses;
use crest_core::instance::Instance;
use crest_core::stream::StreamState;

use super::world::{NOW, World, instance};

fn beat(name: &str, roles: &str, seen_at: WallTime) -> Instance {
    let rtmp = roles.contains("ingest").then(|| format!("rtmp://{name}:1935/live"));
    let srt = roles.contains("ingest,").then(|| format!("srt://{name}:8890"));
    let addresses = Addresses { rtmp, rtmps: Some("rtmps://a:4433/live".to_owned()), srt, whip: None };
    let addresses = (addresses != Addresses::default()).then_some(addresses);
    Instance { id: instance(name), roles: roles.to_owned(), addresses, seen_at }
}

#[tokio::test]
async fn each_is_there_once_as_it_was_heard_of_last() {
    let world = World::new().await;
    assert_eq!(world.store.instances().await.unwrap(), []);
    world.store.beat(&beat("b", "ingest", NOW)).await.unwrap();
    world.store.beat(&beat("a", "api,fuse", NOW)).await.unwrap();
    world.store.beat(&beat("b", "ingest,deliver", NOW.plus_millis(5))).await.unwrap();
    let expected = [beat("a", "api,fuse", NOW), beat("b", "ingest,deliver", NOW.plus_millis(5))];
    assert_eq!(world.store.instances().await.unwrap(), expected);
}

#[tokio::test]
async fn who_was_not_heard_of_is_forgotten_unless_a_stream_that_goes_on_is_its_own() {
    let world = World::new().await;
    for name in ["one", "two", "three"] {
        world.store.beat(&beat(name, "ingest", NOW)).await.unwrap();
    }
    let later = NOW.plus_millis(60_000);
    world.store.beat(&beat("three", "ingest", later)).await.unwrap();
    let left =
        async || -> Vec<String> { world.store.instances().await.unwrap().iter().map(|i| i.id.to_string()).collect() };
    // The stream of the tests was started by "one".
    assert_eq!(world.store.forget_instances(later).await.unwrap(), 1);
    assert_eq!(left().await, ["one", "three"]);
    world.store.transition_stream(&world.stream, None, StreamState::Ended, None, NOW, &[]).await.unwrap();
    assert_eq!(world.store.forget_instances(later).await.unwrap(), 1);
    assert_eq!(left().await, ["three"]);
    assert_eq!(world.store.forget_instances(later).await.unwrap(), 0);
}
