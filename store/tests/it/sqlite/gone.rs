//! What a process that is gone leaves to the next one, which has the file to itself.

use crest_core::job::JobKind;
use crest_core::webhook::DeliveryOrder;

use super::world::{NOW, World};

#[tokio::test]
async fn what_a_process_that_is_gone_had_leased_is_free_at_once() {
    let world = World::new().await;
    world.add_endpoint("a").await;
    world.commit(vec![world.detected(10), world.finalized(10, 2)]).await;
    let until = NOW.plus_millis(1000);
    let order = DeliveryOrder { attempts: 4, millis: 600_000, per_organization: 8 };
    let job = world.store.lease_job(JobKind::Clip, NOW, until).await.unwrap().unwrap();
    let sent = world.store.lease_deliveries(NOW, until, 9, &order).await.unwrap().remove(0);

    let after = world.home.after_a_kill().await;
    assert_eq!(after.lease_job(JobKind::Clip, NOW, until).await.unwrap(), None);
    assert_eq!(after.lease_deliveries(NOW, until, 9, &order).await.unwrap(), []);
    after.take_over().await.unwrap();
    let again = after.lease_job(JobKind::Clip, NOW, until).await.unwrap().unwrap();
    assert_eq!((again.id, again.attempt), (job.id, 2));
    assert_eq!(after.lease_deliveries(NOW, until, 9, &order).await.unwrap(), [sent]);
}

#[tokio::test]
async fn no_key_stands_in_the_file() {
    let world = World::new().await;
    world.store.close().await;
    let bytes = std::fs::read(world.home.file()).unwrap();
    assert!(!bytes.windows(13).any(|w| w == b"crest_sk_acme"));
}
