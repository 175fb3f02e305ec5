//! Fusion that dies for good: another process has its partitions, and decides what the dead one would have.

use anyhow::{Result, ensure};

use super::plan::TWO_FUSE;
use super::world::{World, decider};
use crate::harness::run;
use crate::scene::Scene;

#[test]
fn what_another_process_decides_after_a_kill_is_what_an_undisturbed_one_decides() -> Result<()> {
    run(async {
        // Long enough for a moment that nobody marked.
        let mut scene = Scene::new(World::new(&TWO_FUSE).await?, "44").await?;
        scene.live().await?;
        let both = ["fuse", "fuse-2"];
        for _ in 0..2 {
            let first = decider(&mut scene, &both).await?;
            // In the middle of a moment that is told and not final.
            scene.watched().await?;
            scene.place.end(&first, "KILL").await?;
            let left: Vec<&str> = both.into_iter().filter(|process| *process != first).collect();
            ensure!(decider(&mut scene, &left).await? != first);
            scene.place.start(&first).await?;
        }
        let ended = scene.close().await?;
        let told = ended.undisturbed.decisions();
        ensure!(told >= 6, "{told} decisions are few to compare");
        Ok(())
    })
}
