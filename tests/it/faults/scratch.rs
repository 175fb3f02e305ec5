use super::plan::{Plan, ROLES};
use super::world::World;
use crate::harness::run;
use crate::scene::Scene;
use anyhow::{Context, Result};
#[test]
fn scratch() -> Result<()> {
    run(async {
        let level = std::env::var("SCRATCH_LOG").unwrap_or("info".into());
        let more = [("CREST_LOG__LEVEL", level.as_str())];
        let kill = std::env::var("SCRATCH").unwrap_or_default();
        let mut scene =
            Scene::new(World::with(Plan { processes: &ROLES, more: &more, ..Plan::default() }).await?, "28").await?;
        scene.live().await?;
        scene.works().await?;
        for role in kill.split(',').filter(|r| !r.is_empty()) {
            println!("killing {role}");
            scene.place.end(role, "KILL").await?;
            let begun = std::time::Instant::now();
            scene.place.start(role).await?;
            println!("{role} started in {:?}", begun.elapsed());
            scene.works().await?;
        }
        println!("{}", crate::scene::Place::log(&*scene.place));
        let r = scene.close().await.map(drop);
        r
    })
}
