//! `kill -9` at any moment: nothing that was accepted or decided is lost, nothing is told twice under
//! another id, and the whole goes on where it was.

use anyhow::{Context, Result, ensure};
use crest_core::crash::Stage;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::broadcast;
use crate::harness::{run, wait_for};
use crate::ledger;
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::scene::{LIMIT, Place, SETTINGS, Scene};
use crate::seed::Seed;
use crate::site::Site;

/// Sites at a time.
const AT_ONCE: usize = 3;

/// A site, fed with what is quiet.
async fn scene() -> Result<Scene<Site>> {
    // The first start is a healthy one: what is created over the API is there.
    let site = Arc::new(Site::new(&SETTINGS)?);
    site.start(&[]).await?;
    Scene::new(site, "28").await
}

/// Dies at one place, comes back, and goes on.
async fn dies_at(stage: Stage, side: &str, call: u32) -> Result<()> {
    let mut scene = scene().await?;
    let place = format!("{} {side} {call}", stage.name());
    let _ = scene.place.terminate().await?;
    let site = Arc::clone(&scene.place);
    let death = tokio::spawn(async move { site.start_again_when_it_dies(&[("CREST_CRASH_AT", place.as_str())]).await });
    scene.live().await?;
    for round in 0..2 {
        scene.watch().await?;
        scene.decided(round).await?;
        // Two marks of one instant are one moment: the next is of another.
        sleep(Duration::from_secs(1)).await;
    }
    // The second change of state and the last webhooks come with the end.
    let log = Arc::clone(&scene.place);
    let died = async {
        let died = tokio::time::timeout(LIMIT, death).await;
        died.with_context(|| format!("the place was never reached: {}", log.log()))??
    };
    scene.close_after(died).await.map(drop).with_context(|| log.log())
}

#[test]
fn a_crash_before_or_after_any_stage_loses_nothing() -> Result<()> {
    run(async {
        let places = Stage::ALL.into_iter().flat_map(|stage| {
            ["before", "after"].into_iter().flat_map(move |side| [1, 2].map(move |call| (stage, side, call)))
        });
        let only = std::env::var("CREST_TEST_CRASH").ok();
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut sites = JoinSet::new();
        for (stage, side, call) in places {
            let name = format!("{} {side} {call}", stage.name());
            if only.as_ref().is_some_and(|only| *only != name) {
                continue;
            }
            let slots = Arc::clone(&slots);
            sites.spawn(async move {
                let _slot = slots.acquire().await?;
                let outcome = dies_at(stage, side, call).await;
                println!("dying at '{name}': {}", if outcome.is_ok() { "nothing is lost" } else { "FAILED" });
                outcome.with_context(|| format!("dying at '{name}'"))
            });
        }
        let mut failed = Vec::new();
        while let Some(ended) = sites.join_next().await {
            failed.extend(ended?.err());
        }
        let report: Vec<String> = failed.iter().map(|error| format!("{error:#}")).collect();
        ensure!(failed.is_empty(), "{} places lose something:\n{}", failed.len(), report.join("\n\n"));
        Ok(())
    })
}

#[test]
fn kills_at_random_moments_lose_nothing() -> Result<()> {
    run(async {
        let mut seed = Seed::new();
        let mut scene = scene().await?;
        scene.live().await?;
        for _ in 0..8 {
            let until = Instant::now() + Duration::from_millis(seed.draw(5000));
            let site = Arc::clone(&scene.place);
            let killed = tokio::spawn(async move {
                tokio::time::sleep_until(until.into()).await;
                site.kill_and_start().await
            });
            while !killed.is_finished() {
                scene.watch().await?;
                sleep(Duration::from_millis(seed.draw(700))).await;
            }
            killed.await??;
        }
        scene.live().await?;
        scene.watch().await?;
        scene.close().await.map(drop).context(seed.told)
    })
}

#[test]
fn a_moment_that_was_told_before_the_kill_is_finished_after_it() -> Result<()> {
    run(async {
        let site = Arc::new(Site::new(&SETTINGS)?);
        site.start(&[]).await?;
        let api = site.api();
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "killed", "source": { "kind": "rtmp" } })).await?;
        let stream = made["id"].as_str().context("no id")?.to_owned();
        let url = format!("{}/{}", site.rtmp(), made["ingest"]["stream_key"].as_str().context("no key")?);
        let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &url)?;
        let told = receiver.wait_for("highlight.detected", 1, LIMIT).await?.data();
        // Enough of it is stored for a clip: two groups of pictures.
        sleep(Duration::from_secs(4)).await;
        site.kill_and_start().await?;
        publisher.end(LIMIT).await?;

        let _again = Publisher::ffmpeg(broadcast::file().await?, &["-t", "20"], &url)?;
        let resumed = receiver.wait_for("stream.resumed", 1, LIMIT).await?.data();
        assert_eq!(resumed["session"], 2, "{resumed}");
        let finished = || async {
            let about =
                |kind: &str| receiver.received().iter().any(|r| r.kind() == kind && r.data()["id"] == told["id"]);
            Ok(["highlight.ready", "highlight.failed", "highlight.deleted"].into_iter().find(|kind| about(kind)))
        };
        let end = wait_for("what became of the moment", LIMIT, finished).await.with_context(|| site.log())?;
        assert_eq!(end, "highlight.ready", "{}", site.log());
        let highlights = ledger::highlights(&api, &stream).await?;
        assert!(ledger::clips_are_intact(&api, &highlights).await? > 0);
        Ok(())
    })
}
