//! The network between one process and one service, in turn: cut, and silent.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

use super::plan::{Plan, ROLES, Service};
use super::world::World;
use crate::harness::run;
use crate::scene::Scene;

/// Who speaks to whom.
const WAYS: [(&str, Service); 12] = [
    ("ingest", Service::Kafka),
    ("ingest", Service::Postgres),
    ("ingest", Service::S3),
    ("analyze", Service::Kafka),
    ("analyze", Service::Postgres),
    ("fuse", Service::Kafka),
    ("fuse", Service::Postgres),
    ("deliver", Service::Postgres),
    ("deliver", Service::S3),
    ("api", Service::Kafka),
    ("api", Service::Postgres),
    ("api", Service::S3),
];

/// What becomes of the network, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Connections break off, and new ones are refused.
    Cut,
    /// Nothing arrives, and nobody is told.
    Silent,
}

async fn in_turn(fault: Fault) -> Result<()> {
    let plan = Plan { processes: &ROLES, kafka: Some(&[]), proxies: &WAYS, ..Plan::default() };
    let world = World::with(plan).await?;
    let mut scene = Scene::new(Arc::clone(&world), "28").await?;
    scene.live().await?;
    for (process, service) in WAYS {
        let said = || format!("{fault:?} between {process} and {service:?}");
        let proxy = world.proxy(process, service)?;
        let seconds = match fault {
            Fault::Cut => 2,
            // Longer than a group waits for one of its members.
            Fault::Silent => 7,
        };
        match fault {
            Fault::Cut => proxy.cut(),
            Fault::Silent => proxy.hang(),
        }
        // Whoever asks now may be refused or kept waiting, and asks again.
        let _ = tokio::time::timeout(Duration::from_secs(1), scene.watch()).await;
        sleep(Duration::from_secs(seconds)).await;
        proxy.heal();
        scene.works().await.with_context(said)?;
    }
    scene.close().await?.nothing_is_missing()
}

#[test]
fn a_cut_between_any_role_and_any_service_loses_nothing() -> Result<()> {
    run(async {
        let (cut, silent) = tokio::join!(in_turn(Fault::Cut), in_turn(Fault::Silent));
        cut.context("cut").and(silent.context("silent"))
    })
}
