//! Two processes that both take a partition for theirs: the one that was given it later decides.

use anyhow::{Context, Result, ensure};
use std::sync::Arc;

use super::plan::{Plan, Service, TWO_FUSE};
use super::world::{World, decider};
use crate::harness::{run, wait_for};
use crate::scene::{LIMIT, Place, Scene};

const BOTH: [&str; 2] = ["fuse", "fuse-2"];

#[test]
fn of_two_processes_that_believe_they_own_a_partition_one_decides() -> Result<()> {
    run(async {
        let proxies = BOTH.map(|process| (process, Service::Postgres));
        let plan = Plan { processes: &TWO_FUSE, proxies: &proxies, ..Plan::default() };
        let world = World::with(plan).await?;
        let mut scene = Scene::new(Arc::clone(&world), "28").await?;
        scene.live().await?;
        // Each has its half of the four partitions: none moves any more.
        for process in BOTH {
            world.reaches(process, "crest_bus_partitions", |held| held == 2.0).await?;
        }
        let old = decider(&mut scene, &BOTH).await?;
        let new = BOTH.into_iter().find(|process| *process != old).context("no other")?;

        // It has decided, and its commit does not get through ...
        let decided = world.said(&old, "highlight decided");
        world.proxy(&old, Service::Postgres)?.hang();
        scene.watched().await?;
        let more = || async { Ok((world.said(&old, "highlight decided") > decided).then_some(())) };
        wait_for("the old one to decide", LIMIT, more).await.with_context(|| world.log())?;
        // ... when it stops, for so long that it is thought dead and another has its partitions.
        world.signal(&old, "STOP").await?;
        decider(&mut scene, &[new]).await?;

        world.proxy(&old, Service::Postgres)?.heal();
        world.signal(&old, "CONT").await?;
        world.reaches(&old, "crest_fusion_fenced_total", |refused| refused >= 1.0).await?;
        scene.works().await?;
        // It works on with what it is given.
        world.end(new, "KILL").await?;
        ensure!(decider(&mut scene, &[&old]).await? == old);
        world.start(new).await?;
        scene.close().await.map(drop)
    })
}
