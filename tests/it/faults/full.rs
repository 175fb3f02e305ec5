//! A broker whose disk is full: crest waits, says so, and goes on when there is room.

use anyhow::{Result, ensure};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

use super::plan::{Plan, ROLES};
use super::world::World;
use crate::harness::run;
use crate::scene::{Place, Scene};
use crate::small_disk::{SmallDisk, may_mount};

#[test]
fn a_broker_without_room_is_waited_for() -> Result<()> {
    if !may_mount("faults::full::a_broker_without_room_is_waited_for")? {
        return Ok(());
    }
    run(async {
        let disk = SmallDisk::mount(256 << 20)?;
        let folder = disk.data().join("topics").display().to_string();
        // A broker writes its index through a memory map. Where the disk has no page left for that, it fails in the
        // middle of an append, goes on, and at its next start cuts off what it had acknowledged. That is no fault of
        // crest's, and its logs could not be compared: so it writes no index here.
        let kafka = [("KAFKA_LOG_DIR", folder.as_str()), ("KAFKA_SETTINGS", "log.index.interval.bytes=1073741824")];
        let world = World::with(Plan { processes: &ROLES, kafka: Some(&kafka), ..Plan::default() }).await?;
        let mut scene = Scene::new(Arc::clone(&world), "28").await?;
        scene.live().await?;
        scene.works().await?;
        disk.fill("ballast", 0)?;
        for _ in 0..15 {
            let accepted = scene.watch().await?;
            ensure!(accepted.chat && accepted.mark, "refused: {accepted:?}: {}", world.log());
            sleep(Duration::from_secs(1)).await;
        }
        // A broker that cannot write ends; crest says that it waits, and for whom.
        for role in ["ingest", "api"] {
            world.reaches(role, "crest_bus_spilled_records", |kept| kept > 0.0).await?;
            world.says(role, "bus.brokers").await?;
        }
        disk.clear("ballast")?;
        // Whoever made room starts it again.
        world.kafka()?.stop().await?;
        world.kafka()?.start().await?;
        scene.works().await?;
        scene.close().await?.nothing_is_missing()
    })
}
