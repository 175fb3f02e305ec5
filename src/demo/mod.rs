//! `crest demo`: a synthetic broadcast with known highlights through the whole system. A real ffmpeg
//! publishes it over RTMP to a real `crest serve`, an audience chats, webhooks are received and
//! verified, and at the end what was planned is compared with what was found.

mod api;
mod card;
mod chat;
mod console;
mod live;
mod plan;
mod process;
mod publish;
mod receiver;
mod report;
mod rng;
mod script;
mod server;
mod services;
mod summary;
mod synth;

use anyhow::{Context, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

use crate::config::BusKind;
use crate::usage::Usage;
use api::Api;
use card::Card;
use console::Console;
use live::Live;
use plan::Plan;
use publish::Publisher;
use receiver::{Received, Receiver};
use script::Script;

/// Marks a folder as one the demo may empty.
const MARKER: &str = ".crest-demo";
/// How often the status is refreshed, and the API asked while waiting.
const TICK: Duration = Duration::from_millis(250);
/// The publisher may take this much longer than the broadcast.
const LATE: Duration = Duration::from_secs(60);
/// How long the last clips and webhooks may take.
const SETTLE: Duration = Duration::from_secs(90);
/// Everything counts as done after so many looks in a row at which nothing was left to do.
const LOOKS: u32 = 8;

/// What to demonstrate.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Which broadcast.
    pub seed: u64,
    /// Where records move.
    pub bus: BusKind,
    /// The configuration that names Kafka, PostgreSQL and S3.
    pub config: Option<PathBuf>,
    /// Where everything goes.
    pub out: PathBuf,
}

/// Runs the demo; `true` where it passed.
pub async fn run(options: DemoOptions) -> anyhow::Result<bool> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Whichever way this ends, dropping the demo kills the processes it started.
    tokio::select! {
        passed = demonstrate(&options) => passed,
        signal = interrupted() => bail!("{signal}; the demo's server and publisher are stopped"),
    }
}

async fn interrupted() -> String {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "interrupted".to_owned(),
        _ = term.recv() => "told to stop".to_owned(),
        _ = hangup.recv() => "the terminal is gone".to_owned(),
    }
}

async fn demonstrate(options: &DemoOptions) -> anyhow::Result<bool> {
    let console = Console::default();
    let version = tokio::process::Command::new("ffmpeg").arg("-version").output().await;
    if !version.is_ok_and(|v| v.status.success()) {
        return Err(publish::missing_ffmpeg().into());
    }
    let plan = Plan::of(options)?;
    let out = fresh(&options.out)?;
    let script = Script::of(options.seed);
    summary::heading(&console, &script);
    // Before anything that takes its time: what is missing is said at once.
    let stage = plan.prepare(&out, &console).await?;

    let broadcast = out.join("broadcast.mp4");
    synth::make(&script, &broadcast, &console.progress(1, "making the broadcast")).await?;
    let lines = chat::lines(&script);
    chat::write(&lines, &out.join("chat.jsonl"))?;
    std::fs::write(out.join("labels.json"), json!(script.labels()).to_string())?;

    let (mut server, key) = stage.start(&out, &console).await?;
    server.introduce(&console);
    let api = Api::new(&server.http, &key)?;
    let (receiver, mut events) = Receiver::start().await?;
    let webhook = api.post("/v1/webhooks", &json!({"url": receiver.url})).await?;
    receiver.expect(webhook["secret"].as_str().context("the webhook's creation answered no secret")?);
    let webhook = webhook["id"].as_str().context("the webhook has no id")?.to_owned();
    let stream = api.post("/v1/streams", &json!({"name": "demo", "source": {"kind": "rtmp"}})).await?;
    let stream_id = stream["id"].as_str().context("the stream has no id")?.to_owned();
    let stream_key = stream["ingest"]["stream_key"].as_str().context("the stream has no key")?;

    let url = format!("{}/{stream_key}", server.rtmp.trim_end_matches('/'));
    let mut publisher = Publisher::start(&broadcast, &url).await?;
    let mut live = Live::new(&script, &console, api.clone(), options.out.clone(), publisher.zero());
    let posting = chat::post(api.clone(), stream_id.clone(), lines, publisher.zero());
    let posting = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(posting));
    tokio::select! {
        aired = on_air(&mut publisher, &mut events, &mut live, &script) => aired?,
        died = server.died() => return Err(died),
    }
    match posting.await.context("the chat stopped")? {
        Ok(0) => {}
        Ok(lost) => live.faults.push(format!("{lost} chat messages were not taken")),
        Err(error) => live.faults.push(format!("{error:#}")),
    }
    if let Err(error) = api.post(&format!("/v1/streams/{stream_id}/stop"), &json!({})).await {
        live.faults.push(format!("the stream could not be stopped: {error}"));
    }
    let watched = Watched { api: &api, stream: &stream_id, webhook: &webhook };
    tokio::select! {
        settled = watched.settle(&mut events, &mut live) => settled?,
        died = server.died() => return Err(died),
    }
    let lost = watched.lost(&live).await?;
    console.status("stopping crest serve");
    live.faults.extend(server.stop().await);
    console.clear();
    let card = Card::of(&script, &live.found, receiver.tally(), lost, live.faults);
    report::write(&script, &card, &live.found, &out.join("report.html"))?;
    Ok(summary::print(&console, &card, &options.out))
}

/// Until the publisher is done: shows what happens.
async fn on_air(
    publisher: &mut Publisher,
    events: &mut mpsc::Receiver<Received>,
    live: &mut Live<'_>,
    script: &Script,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(TICK);
    let limit = tokio::time::sleep(Duration::from_secs_f64(script.duration_s) + LATE);
    tokio::pin!(limit);
    loop {
        tokio::select! {
            ended = publisher.end() => return ended,
            Some(received) = events.recv() => live.take(received).await,
            _ = tick.tick() => live.tick(),
            () = &mut limit => bail!("ffmpeg did not finish publishing in time"),
        }
        live.set_zero(publisher.zero());
    }
}

/// What is asked about until nothing is left to do.
struct Watched<'a> {
    api: &'a Api,
    stream: &'a str,
    webhook: &'a str,
}

impl Watched<'_> {
    /// Waits until the stream is over, every highlight is ready or failed, and every webhook is
    /// delivered, for several looks in a row.
    async fn settle(&self, events: &mut mpsc::Receiver<Received>, live: &mut Live<'_>) -> anyhow::Result<()> {
        let limit = tokio::time::Instant::now() + SETTLE;
        let mut calm = 0;
        while calm < LOOKS {
            let left = self.left_to_do().await?;
            let mut quiet = left.is_none() && live.ended;
            while let Ok(received) = events.try_recv() {
                quiet = false;
                live.take(received).await;
            }
            live.tick();
            calm = if quiet { calm + 1 } else { 0 };
            if tokio::time::Instant::now() > limit {
                let left = left.unwrap_or_else(|| "stream.ended did not arrive".to_owned());
                live.faults.push(format!("after {} s of waiting: {left}", SETTLE.as_secs()));
                return Ok(());
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    async fn left_to_do(&self) -> anyhow::Result<Option<String>> {
        let stream = self.api.get(&format!("/v1/streams/{}", self.stream)).await?;
        let state = stream["state"].as_str().unwrap_or_default();
        if !matches!(state, "ended" | "failed") {
            return Ok(Some(format!("the stream is still {state}")));
        }
        let highlights = self.api.list(&format!("/v1/streams/{}/highlights", self.stream)).await?;
        if let Some(open) = highlights.iter().find(|h| matches!(h["state"].as_str(), Some("provisional" | "final"))) {
            return Ok(Some(format!("highlight {} is still {}", open["id"], open["state"])));
        }
        let deliveries = self.api.list(&format!("/v1/webhooks/{}/deliveries", self.webhook)).await?;
        let pending = deliveries.iter().find(|d| d["state"].as_str() == Some("pending"));
        Ok(pending.map(|d| format!("webhook {} is not delivered: {}", d["event_type"], d["last_outcome"])))
    }

    /// Highlights the API calls ready and no webhook did.
    async fn lost(&self, live: &Live<'_>) -> anyhow::Result<Vec<String>> {
        let told = |id: &str| live.found.iter().any(|f| f.id == id && f.ready_s.is_some());
        let highlights = self.api.list(&format!("/v1/streams/{}/highlights", self.stream)).await?;
        let ready = highlights.iter().filter(|h| h["state"].as_str() == Some("ready"));
        Ok(ready.filter_map(|h| h["id"].as_str()).filter(|id| !told(id)).map(str::to_owned).collect())
    }
}

/// An empty output folder. Empties one of an earlier demo and nothing else.
fn fresh(out: &Path) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot prepare {}", out.display());
    let used = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    if used && !out.join(MARKER).exists() {
        let error = format!("{} holds something else than a demo; choose another folder with --out", out.display());
        return Err(Usage(error).into());
    }
    for folder in ["data", "clips", "services"] {
        if out.join(folder).exists() {
            std::fs::remove_dir_all(out.join(folder)).with_context(cannot)?;
        }
    }
    std::fs::create_dir_all(out.join("clips")).with_context(cannot)?;
    std::fs::write(out.join(MARKER), "").with_context(cannot)?;
    out.canonicalize().with_context(cannot)
}
