//! A disk that is full when a transaction commits: it fails, and once there is room the next one works.

use crest_core::store::Tenants;
use crest_core::{Fault, WallTime};
use crest_store::SqliteStore;

use crate::small_disk::{SmallDisk, may_mount};

#[test]
fn a_commit_that_failed_for_want_of_room_does_not_stop_the_next() {
    if !may_mount("sqlite::full::a_commit_that_failed_for_want_of_room_does_not_stop_the_next").unwrap() {
        return;
    }
    let disk = SmallDisk::mount(4 << 20).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(&disk.data().join("crest.db")).await.unwrap();
        for round in 0..3 {
            disk.fill("filler", 0).unwrap();
            let mut refused = None;
            for number in 0..500 {
                let name = format!("{round} {number} {}", "x".repeat(3000));
                let key = format!("crest_sk_{round}_{number}");
                if let Err(error) = store.create_organization(&name, &key, WallTime(0)).await {
                    refused = Some(error);
                    break;
                }
            }
            assert_eq!(refused.map(|error| error.fault), Some(Fault::Full), "round {round}");
            disk.clear("filler").unwrap();
            let made = store.create_organization("after", &format!("crest_sk_after_{round}"), WallTime(0)).await;
            assert_eq!(made.unwrap().name, "after", "round {round}");
        }
    });
}
