//! A database that ends in the middle of commits, several times.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

use super::plan::{Plan, ROLES};
use super::world::World;
use crate::harness::run;
use crate::scene::Scene;
use crate::seed::Seed;

#[test]
fn a_database_that_ends_in_the_middle_of_commits_loses_no_decision() -> Result<()> {
    run(async {
        let mut seed = Seed::new();
        let world = World::with(Plan { processes: &ROLES, postgres: true, ..Plan::default() }).await?;
        let mut scene = Scene::new(Arc::clone(&world), "28").await?;
        scene.live().await?;
        for _ in 0..6 {
            let before = Duration::from_millis(seed.draw(1500));
            let world = Arc::clone(&world);
            // Immediately: nothing is finished, nothing rolled back, every connection breaks off.
            let again = tokio::spawn(async move {
                sleep(before).await;
                world.postgres()?.abort().await?;
                world.postgres()?.start().await
            });
            while !again.is_finished() {
                scene.watch().await?;
            }
            again.await??;
            scene.works().await?;
        }
        scene.close().await?.nothing_is_missing().context(seed.told)
    })
}
