//! The server that is measured, and its API.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The operator's key.
const KEY: &str = "crest_sk_the_operator_of_the_benchmark";
/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// A running `crest serve` on free ports. Dropping it kills it.
pub struct Crest {
    child: Child,
    /// Its process.
    pub pid: u32,
    /// Its data directory, gone when this is dropped.
    pub data: PathBuf,
    /// `rtmp://127.0.0.1:PORT/live`.
    pub rtmp: String,
    http: String,
    _folder: tempfile::TempDir,
}

impl Crest {
    /// Starts it on an empty data directory; its log goes to `log`.
    pub async fn start(program: &Path, log: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CREST_")) {
            command.env_remove(name);
        }
        let mut child = command
            .arg("serve")
            .env("CREST_DATA_DIR", &data)
            .env("CREST_BOOTSTRAP_KEY", KEY)
            .env("CREST_HTTP__LISTEN", "127.0.0.1:0")
            .env("CREST_RTMP__LISTEN", "127.0.0.1:0")
            .env("CREST_SRT__LISTEN", "127.0.0.1:0")
            .env("CREST_WEBRTC__LISTEN", "127.0.0.1:0")
            .env("CREST_WEBHOOKS__ALLOW_PRIVATE", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let pid = child.id().context("crest has ended already")?;
        let stdout = child.stdout.take().context("crest has no standard output")?;
        let addresses = tokio::time::timeout(Duration::from_secs(60), addresses(stdout)).await;
        let (http, rtmp) = match addresses {
            Ok(Ok(addresses)) => addresses,
            _ => bail!("crest did not say where it listens; {} says why", log.display()),
        };
        let started = Self { child, pid, data, rtmp, http, _folder: folder };
        let api = started.operator()?;
        tokio::time::timeout(READY, api.ready())
            .await
            .with_context(|| format!("crest does not become ready; {} says why", log.display()))?;
        Ok(started)
    }

    /// The API as the operator.
    pub fn operator(&self) -> Result<Api> {
        Api::new(&self.http, KEY)
    }

    /// The API as an organization of its own.
    pub async fn tenant(&self, name: &str) -> Result<Api> {
        let made = self.operator()?.post("/v1/organizations", serde_json::json!({ "name": name })).await?;
        Api::new(&self.http, made["api_key"].as_str().context("no api_key")?)
    }

    /// Ends it as an operator would.
    pub async fn stop(mut self) -> Result<()> {
        Command::new("kill").arg("-TERM").arg(self.pid.to_string()).status().await?;
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        let status = ended.context("crest did not stop")??;
        ensure!(status.success(), "crest ended with {status}");
        Ok(())
    }
}

/// Reads the two lines that tell the addresses, and goes on reading so that the pipe stays open.
async fn addresses(stdout: tokio::process::ChildStdout) -> Result<(String, String)> {
    let mut lines = BufReader::new(stdout).lines();
    let (mut http, mut rtmp) = (None, None);
    while let Some(line) = lines.next_line().await? {
        http = line.strip_prefix("http listening on ").map(str::to_owned).or(http);
        rtmp = line.strip_prefix("rtmp listening on ").map(str::to_owned).or(rtmp);
        if let (Some(http), Some(rtmp)) = (&http, &rtmp) {
            let found = (http.clone(), rtmp.clone());
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(found);
        }
    }
    bail!("it ended")
}

/// The API with one key. Its connections are closed after each request: none of them counts as one
/// that the server keeps.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Api {
    fn new(base: &str, key: &str) -> Result<Self> {
        let http =
            reqwest::Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(60)).no_proxy().build()?;
        Ok(Self { http, base: base.to_owned(), key: key.to_owned() })
    }

    /// The text at an address.
    pub async fn text(&self, path: &str) -> Result<String> {
        let response = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.key).send().await?;
        let status = response.status();
        ensure!(status.is_success(), "GET {path}: {status}");
        Ok(response.text().await?)
    }

    /// Comes back when crest is ready to work.
    async fn ready(&self) {
        while self.text("/readyz").await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// POST that must succeed.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.key);
        let response = request.header("content-type", "application/json").body(body.to_string()).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "POST {path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}
