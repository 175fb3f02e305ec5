//! A broker that is away for a minute: what must not be lost waits on the disks of those who bring it in.

use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

use super::plan::{Plan, ROLES};
use super::world::World;
use crate::harness::run;
use crate::scene::{Place, Scene};

/// How long it is away.
const AWAY: Duration = Duration::from_secs(60);

/// How it goes away and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// It dies and is started.
    Killed,
    /// It keeps its connections and says nothing.
    Silent,
}

async fn a_minute_without(away: Away) -> Result<()> {
    let world = World::with(Plan { processes: &ROLES, kafka: Some(&[]), ..Plan::default() }).await?;
    let mut scene = Scene::new(Arc::clone(&world), "28").await?;
    scene.live().await?;
    scene.works().await?;
    let before = scene.promised.chat.len();
    match away {
        Away::Killed => world.kafka()?.kill().await?,
        Away::Silent => world.kafka()?.signal("STOP").await?,
    }
    let begun = Instant::now();
    while begun.elapsed() < AWAY {
        let accepted = scene.watch().await?;
        ensure!(accepted.chat && accepted.mark, "refused after {:?}: {accepted:?}: {}", begun.elapsed(), world.log());
        sleep(Duration::from_secs(2)).await;
    }
    let meanwhile = scene.promised.chat.len() - before;
    ensure!(meanwhile >= 25, "only {meanwhile} messages were accepted meanwhile");
    for role in ["ingest", "api"] {
        let kept = world.figure(role, "crest_bus_spilled_records").await?;
        ensure!(kept > 0.0, "{role} keeps nothing: {}", world.log());
    }
    match away {
        Away::Killed => world.kafka()?.start().await?,
        Away::Silent => world.kafka()?.signal("CONT").await?,
    }
    scene.works().await?;
    for role in ["ingest", "api"] {
        world.reaches(role, "crest_bus_spilled_records", |kept| kept == 0.0).await?;
    }
    scene.close().await?.nothing_is_missing()
}

#[test]
fn a_broker_that_was_away_for_a_minute_gets_everything() -> Result<()> {
    run(async {
        let (killed, silent) = tokio::join!(a_minute_without(Away::Killed), a_minute_without(Away::Silent));
        killed.context("killed").and(silent.context("silent"))
    })
}
