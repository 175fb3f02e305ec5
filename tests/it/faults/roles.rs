//! Processes that are killed, or told to stop, and started again.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

use super::plan::ROLES;
use super::world::World;
use crate::harness::run;
use crate::scene::Scene;
use crate::seed::Seed;

#[test]
fn any_role_that_is_killed_or_told_to_stop_goes_on_where_it_was() -> Result<()> {
    run(async {
        let mut scene = Scene::new(World::new(&ROLES).await?, "28").await?;
        scene.live().await?;
        for role in ROLES {
            for signal in ["KILL", "TERM"] {
                let said = || format!("{signal} to {role}");
                scene.watch().await?;
                scene.tell(&said());
                scene.place.end(role, signal).await.with_context(said)?;
                scene.place.start(role).await.with_context(said)?;
                scene.works().await.with_context(said)?;
            }
        }
        scene.close().await.map(drop)
    })
}

#[test]
fn roles_that_are_killed_at_random_moments_lose_nothing() -> Result<()> {
    run(async {
        let mut seed = Seed::new();
        let world = World::new(&ROLES).await?;
        let mut scene = Scene::new(Arc::clone(&world), "28").await?;
        scene.live().await?;
        for _ in 0..12 {
            let role = ROLES[seed.draw(ROLES.len() as u64) as usize];
            let signal = if seed.draw(4) == 0 { "TERM" } else { "KILL" };
            let (before, away) = (seed.draw(2500), seed.draw(1500));
            scene.tell(&format!("{signal} to {role}"));
            let world = Arc::clone(&world);
            let again = tokio::spawn(async move {
                sleep(Duration::from_millis(before)).await;
                world.end(role, signal).await?;
                sleep(Duration::from_millis(away)).await;
                world.start(role).await.with_context(|| format!("{signal} to {role}"))
            });
            while !again.is_finished() {
                scene.watch().await?;
                sleep(Duration::from_millis(300 + seed.draw(1500))).await;
            }
            again.await?.context(seed.told.clone())?;
        }
        scene.live().await?;
        scene.close().await.map(drop).context(seed.told)
    })
}
