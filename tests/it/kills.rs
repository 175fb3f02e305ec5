//! `kill -9` at any moment: nothing that was accepted or decided is lost, nothing is told twice under
//! another id, and the whole goes on where it was.

use anyhow::{Context, Result, ensure};
use crest_core::crash::Stage;
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::broadcast;
use crate::harness::{run, wait_for};
use crate::ledger::{self, Promised};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::site::Site;

/// Until something happens that needs a start, a session and a clip, on a machine that does a lot else.
const LIMIT: Duration = Duration::from_secs(120);
/// Sites at a time.
const AT_ONCE: usize = 3;
/// Clips without what comes after: media for that need not be waited for.
const SETTINGS: [(&str, &str); 4] = [
    ("CREST_CLIPS__AFTER", "0s"),
    ("CREST_WEBHOOKS__RETRY", "200ms,200ms,500ms,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"),
    ("CREST_INGEST__RECONNECT", "120s"),
    ("CREST_LOG__LEVEL", "info"),
];

/// A site with a stream that is fed whenever crest runs, and a receiver.
struct Scene {
    site: Arc<Site>,
    receiver: Receiver,
    stream: String,
    feed: JoinHandle<()>,
    promised: Promised,
    sent: u32,
}

impl Scene {
    /// The first start is a healthy one: what is created over the API is there.
    async fn new() -> Result<Self> {
        let site = Arc::new(Site::new(&SETTINGS)?);
        site.start(&[]).await?;
        let api = site.api();
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "killed", "source": { "kind": "rtmp" } })).await?;
        let stream = made["id"].as_str().context("no id")?.to_owned();
        let url = format!("{}/{}", site.rtmp(), made["ingest"]["stream_key"].as_str().context("no key")?);
        let file = broadcast::file().await?;
        // Always from the start, which is quiet: what is found is what is marked.
        let feed = tokio::spawn(async move {
            loop {
                if let Ok(publisher) = Publisher::ffmpeg(file, &["-t", "28"], &url) {
                    let _ = publisher.end(LIMIT).await;
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        Ok(Self { site, receiver, stream, feed, promised: Promised::default(), sent: 0 })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/streams/{}{rest}", self.stream)
    }

    async fn live(&self) -> Result<()> {
        let live = || async { Ok((self.site.api().get(&self.path("")).await?["state"] == "live").then_some(())) };
        wait_for("the stream to be live", LIMIT, live).await.with_context(|| self.site.log())
    }

    /// Chat and a mark, both sent again under the same ids as long as there is no answer. What crest
    /// refuses, because its session is over by now, it owes nobody.
    async fn watch(&mut self) -> Result<()> {
        self.sent += 1;
        let api = self.site.api();
        let at = jiff::Timestamp::now().to_string();
        let ids: Vec<String> = (0..5).map(|n| format!("{}-{n}", self.sent)).collect();
        let (chat, path) = (ledger::chat(&ids, &at), self.path("/chat"));
        let answered = || async { Ok(Some(api.send(Method::POST, &path, Some(chat.clone())).await?)) };
        if wait_for("an answer to chat", LIMIT, answered).await?.status.is_success() {
            self.promised.chat.extend(ids);
        }
        let path = self.path("/markers");
        let answered = || async { Ok(Some(api.send(Method::POST, &path, Some(json!({ "at": at }))).await?)) };
        let mark = wait_for("an answer to a mark", LIMIT, answered).await?;
        if mark.status.is_success() {
            let mark = mark.json();
            self.promised.marks.push((mark["session"].as_u64().unwrap_or(0), mark["t"].as_f64().unwrap_or(-1.0)));
        }
        Ok(())
    }

    /// A decided moment more than before.
    async fn decided(&self, more_than: usize) -> Result<()> {
        let count = || async {
            let found = ledger::highlights(&self.site.api(), &self.stream).await?;
            Ok((found.len() > more_than).then_some(()))
        };
        wait_for("a highlight", LIMIT, count).await.with_context(|| self.site.log())
    }

    /// The end: the stream is stopped, everything owed is waited for, and the books are compared. By
    /// then crest must have died, where a death is expected.
    async fn close(mut self, death: Option<JoinHandle<Result<()>>>) -> Result<()> {
        let api = self.site.api();
        // The last mark has media before it: there is a clip to be made.
        let stored = || async {
            let metrics = api.raw(Method::GET, "/metrics", &[], Vec::new()).await?;
            let text = String::from_utf8_lossy(&metrics.body).into_owned();
            let fragments = text.lines().find_map(|l| l.strip_prefix("crest_segment_fragments_total "));
            Ok(fragments.and_then(|n| n.parse::<f64>().ok()).filter(|n| *n >= 2.0))
        };
        wait_for("stored media", LIMIT, stored).await.with_context(|| self.site.log())?;
        self.watch().await?;
        self.decided(0).await?;
        self.feed.abort();
        let stop = || async {
            let answer = api.send(Method::POST, &self.path("/stop"), Some(json!({}))).await?;
            ensure!(answer.status.is_success(), "stop: {} {}", answer.status, answer.json());
            Ok(Some(()))
        };
        wait_for("the stream to stop", LIMIT, stop).await.with_context(|| self.site.log())?;
        self.receiver.wait_for("stream.ended", 1, LIMIT).await.with_context(|| self.site.log())?;
        ensure!(!self.promised.marks.is_empty(), "no mark was accepted");
        let paid = || async {
            let highlights = ledger::highlights(&api, &self.stream).await?;
            match ledger::owed(&self.promised, &highlights, &self.receiver.received())? {
                None => Ok(Some(highlights)),
                Some(owed) => anyhow::bail!(owed),
            }
        };
        wait_for("everything owed", LIMIT, paid).await.with_context(|| self.site.log())?;
        if let Some(death) = death {
            let died = tokio::time::timeout(LIMIT, death).await;
            died.with_context(|| format!("the place was never reached: {}", self.site.log()))???;
        }
        let highlights = wait_for("everything owed", LIMIT, paid).await.with_context(|| self.site.log())?;
        ensure!(ledger::clips_are_intact(&api, &highlights).await? > 0, "no clip was made: {highlights:#?}");
        let highlights = wait_for("everything owed", LIMIT, paid).await.with_context(|| self.site.log())?;
        let data = self.site.stop().await?;
        ledger::as_if_undisturbed(&data, &self.promised, &highlights).await
    }
}

/// Dies at one place, comes back, and goes on.
async fn dies_at(stage: Stage, side: &str, call: u32) -> Result<()> {
    let mut scene = Scene::new().await?;
    let place = format!("{} {side} {call}", stage.name());
    let _ = scene.site.stop().await?;
    let site = Arc::clone(&scene.site);
    let death = tokio::spawn(async move { site.start_again_when_it_dies(&[("CREST_CRASH_AT", place.as_str())]).await });
    scene.live().await?;
    for round in 0..2 {
        scene.watch().await?;
        scene.decided(round).await?;
        // Two marks of one instant are one moment: the next is of another.
        sleep(Duration::from_secs(1)).await;
    }
    // The second change of state and the last webhooks come with the end.
    let log = Arc::clone(&scene.site);
    scene.close(Some(death)).await.with_context(|| log.log())
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

/// Splitmix64: a seed makes the whole course.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

#[test]
fn kills_at_random_moments_lose_nothing() -> Result<()> {
    run(async {
        let given = std::env::var("CREST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().unsigned_abs());
        println!("CREST_TEST_SEED={seed}");
        let mut state = seed;
        let mut scene = Scene::new().await?;
        scene.live().await?;
        for _ in 0..8 {
            let until = Instant::now() + Duration::from_millis(draw(&mut state, 5000));
            let site = Arc::clone(&scene.site);
            let killed = tokio::spawn(async move {
                tokio::time::sleep_until(until.into()).await;
                site.kill_and_start().await
            });
            while !killed.is_finished() {
                scene.watch().await?;
                sleep(Duration::from_millis(draw(&mut state, 700))).await;
            }
            killed.await??;
        }
        scene.live().await?;
        scene.watch().await?;
        scene.close(None).await.with_context(|| format!("CREST_TEST_SEED={seed}"))
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
