//! What the tests of garbage stand on: a server of their own, a healthy publisher beside the garbage, and
//! what shows that nothing else suffered.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

use crate::broadcast;
use crate::harness::wait_for;
use crate::publisher::Publisher;
use crate::server::{Api, Server};

/// How long what is expected may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);
/// What a server may grow by in the face of garbage. Its own bounds are lower: three messages of
/// `rtmp.max_frame`, here 1 MiB, for a publisher, 64 KiB for a stranger; the rest is the allocator's, and
/// what the healthy publisher's decoders take.
const GROWTH_KIB: u64 = 80 * 1024;

/// A server with a healthy publisher.
pub struct Stage {
    pub server: Server,
    pub api: Api,
    healthy: String,
    _publisher: Publisher,
    before_kib: u64,
    folder: TempDir,
}

impl Stage {
    /// Starts both, and waits until the publisher's media is stored.
    pub async fn set(settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let settings = [&[("CREST_RTMP__MAX_FRAME", "1MiB")], settings].concat();
        let server = Server::start_with(folder.path(), &settings).await?;
        let api = server.as_operator();
        let (healthy, key) = create(&api).await?;
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(broadcast::file().await?);
        command.args(["-c", "copy", "-f", "flv", &format!("{}/{key}", server.rtmp)]);
        let publisher = Publisher::start(command)?;
        let mut stage = Self { server, api, healthy, _publisher: publisher, before_kib: 0, folder };
        stage.goes_on().await?;
        stage.before_kib = stage.resident_kib()?;
        Ok(stage)
    }

    /// A stream to send garbage to: its id and its key.
    pub async fn stream(&self) -> Result<(String, String)> {
        create(&self.api).await
    }

    /// The stream that the healthy publisher feeds.
    pub fn healthy(&self) -> &str {
        &self.healthy
    }

    /// The state of a stream.
    pub async fn state(&self, stream: &str) -> Result<String> {
        let shown = self.api.get(&format!("/v1/streams/{stream}")).await?;
        Ok(shown["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a stream is in this state.
    pub async fn becomes(&self, stream: &str, state: &str) -> Result<()> {
        let question = || async { Ok((self.state(stream).await? == state).then_some(())) };
        wait_for(&format!("a stream to be {state}"), SOON, question).await.with_context(|| self.server.log_tail())
    }

    /// The sum of a metric's series that have this label, or of all.
    pub async fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let text = String::from_utf8(self.api.raw(reqwest::Method::GET, "/metrics", &[], Vec::new()).await?.body)?;
        let ours = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let series = text.lines().filter(ours).filter(|line| line.contains(label));
        Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Waits until a metric has reached this much.
    pub async fn counted(&self, name: &str, label: &str, least: f64) -> Result<()> {
        let question = || async { Ok((self.metric(name, label).await? >= least).then_some(())) };
        wait_for(&format!("{name}{{{label}}} to reach {least}"), SOON, question)
            .await
            .with_context(|| self.server.log_tail())
    }

    /// Waits until there are no more connections than `rtmp.max_connections`: one that makes room for another is
    /// counted until it has noticed.
    pub async fn within_the_limit(&self) -> Result<()> {
        let question = || async { Ok((self.metric("crest_rtmp_connections", "").await? <= 256.0).then_some(())) };
        wait_for("the connections to be at most rtmp.max_connections", SOON, question).await
    }

    /// The segment files of a stream.
    pub fn segments(&self, stream: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.server.data.join("media")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => found.push(path),
                }
            }
        }
        found.retain(|path| path.components().any(|c| c.as_os_str() == stream));
        found.sort();
        found
    }

    fn stored(&self, stream: &str) -> u64 {
        self.segments(stream).iter().filter_map(|path| path.metadata().ok()).map(|data| data.len()).sum()
    }

    /// The healthy publisher is live, and more of it is stored than before.
    pub async fn goes_on(&self) -> Result<()> {
        let before = self.stored(&self.healthy);
        self.becomes(&self.healthy, "live").await?;
        let more = || async { Ok((self.stored(&self.healthy) > before).then_some(())) };
        wait_for("the healthy publisher's media to be stored", SOON, more).await.with_context(|| self.server.log_tail())
    }

    /// Nothing else suffered: the healthy publisher goes on, a new one can begin, memory is bounded.
    pub async fn unharmed(&self) -> Result<()> {
        ensure!(self.metric("crest_feeds_live", "").await? >= 1.0, "no feed is live");
        self.goes_on().await?;
        let (stream, key) = self.stream().await?;
        let fresh = Publisher::ffmpeg(broadcast::file().await?, &[], &format!("{}/{key}", self.server.rtmp))?;
        self.becomes(&stream, "live").await?;
        fresh.kill().await?;
        let (before, after) = (self.before_kib, self.resident_kib()?);
        eprintln!("resident: {before} KiB before, {after} KiB after");
        ensure!(after < before + GROWTH_KIB, "the server grew from {before} KiB to {after} KiB");
        let log = std::fs::read_to_string(self.folder.path().join("serve.log"))?;
        let panic = log.lines().find(|line| line.contains("panicked"));
        ensure!(panic.is_none(), "{}", panic.unwrap_or_default());
        Ok(())
    }

    fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }
}

async fn create(api: &Api) -> Result<(String, String)> {
    let made = api.post("/v1/streams", json!({ "name": "a feed", "source": { "kind": "rtmp" } })).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
    Ok((text(&made["id"])?, text(&made["ingest"]["stream_key"])?))
}
