//! An object storage that refuses, hangs and breaks off for a while, also when a stream ends meanwhile.

use anyhow::{Result, ensure};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

use super::faulty::{Faulty, Mood};
use super::plan::{Plan, ROLES};
use super::world::World;
use crate::harness::run;
use crate::scene::Scene;
use crate::services::shared_s3;

/// How long it is in each mood: longer than a clip is waited for whose media is told to be there.
const WHILE: Duration = Duration::from_secs(8);

#[test]
fn an_object_storage_that_fails_for_a_while_loses_no_clip() -> Result<()> {
    run(async {
        let endpoint = tokio::task::spawn_blocking(|| shared_s3().map(|s3| s3.endpoint)).await??;
        let storage = Faulty::before(&endpoint).await?;
        let more = [("CREST_STORAGE__ENDPOINT", storage.endpoint.as_str())];
        let world = World::with(Plan { processes: &ROLES, more: &more, ..Plan::default() }).await?;
        let mut scene = Scene::new(Arc::clone(&world), "28").await?;
        scene.live().await?;
        scene.works().await?;
        for mood in [Mood::Refusing, Mood::Hanging, Mood::BreakingOff] {
            let spoiled = storage.spoiled();
            storage.now(mood);
            // Moments are told all the same; only their clips have to wait.
            scene.works().await?;
            sleep(WHILE).await;
            ensure!(storage.spoiled() > spoiled, "{mood:?}: nobody asked it");
            storage.now(Mood::Well);
            scene.works().await?;
        }
        // The stream ends while it refuses: what was not stored yet is not lost.
        scene.watched().await?;
        storage.now(Mood::Refusing);
        scene.stop().await?;
        sleep(WHILE).await;
        storage.now(Mood::Well);
        scene.settle(std::future::ready(Ok(()))).await?.nothing_is_missing()
    })
}
