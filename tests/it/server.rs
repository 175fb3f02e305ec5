//! The real `crest serve` on free ports, and its API as a client sees it.

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::OnceCell;

use crate::harness::{crest_command, signal, untouched, wait_for};

/// The operator's key of every server here.
pub const KEY: &str = "crest_sk_the_operator_of_the_tests";
/// How long a server may take to be ready on an empty directory.
const READY: Duration = Duration::from_secs(20);
/// ... and one of several that start at once, with services that may have to come back first.
const READY_AMONG_OTHERS: Duration = Duration::from_secs(60);

/// Runs crest, and ends it and removes its data when the tests are over or were killed: its standard
/// input closes then, whatever happened. (Statics are not dropped.)
const KEEPER: &str = r#""$0" serve </dev/null & read -r _; kill -KILL $!; wait $!; rm -rf "$CREST_DATA_DIR""#;

/// What a server that starts has to say, and until when it must be ready.
struct Expected {
    rtmp: bool,
    limit: Duration,
}

/// It ended before it was ready.
#[derive(Debug, Clone, Copy)]
pub struct Ended(pub ExitStatus);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "crest ended before it was ready, with {}", self.0)
    }
}

impl std::error::Error for Ended {}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    /// The process, `crest` or its keeper.
    pid: u32,
    /// Whoever waits for the process closes its standard input, and the keeper ends its server then.
    _stdin: Option<ChildStdin>,
    /// What it logs.
    pub log: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// `http://127.0.0.1:PORT`.
    pub http: String,
    /// `rtmp://127.0.0.1:PORT/live`.
    pub rtmp: String,
}

impl Server {
    /// Starts one with its data in `folder/data` and its log in `folder/serve.log`.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &[]).await
    }

    /// Starts one with these settings on top, `CREST_SECTION__KEY` or others.
    pub async fn start_with(folder: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let mut command = crest_command();
        command.arg("serve").stdin(Stdio::null());
        Self::spawn(command, folder, settings, Expected { rtmp: true, limit: READY }).await
    }

    /// Starts one with this configuration file.
    pub async fn start_configured(folder: &Path, toml: &str) -> Result<Self> {
        let file = folder.join("crest.toml");
        std::fs::write(&file, toml)?;
        let mut command = crest_command();
        command.args(["serve", "--config"]).arg(file).stdin(Stdio::null());
        Self::spawn(command, folder, &[], Expected { rtmp: true, limit: READY }).await
    }

    /// Starts one that has these roles, as one process of several. Without `ingest` its `rtmp` is empty.
    pub async fn start_roles(folder: &Path, roles: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let mut command = crest_command();
        command.args(["serve", "--roles", roles]).stdin(Stdio::null());
        let rtmp = roles.split(',').any(|role| matches!(role, "ingest" | "all"));
        Self::spawn(command, folder, settings, Expected { rtmp, limit: READY_AMONG_OTHERS }).await
    }

    /// The one that all tests share which need no server of their own.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Server> = OnceCell::const_new();
        SHARED
            .get_or_try_init(|| async {
                let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shared-{}", std::process::id()));
                forget_earlier_runs();
                let mut command = untouched(Command::new("sh"));
                command.args(["-c", KEEPER, env!("CARGO_BIN_EXE_crest")]).stdin(Stdio::piped());
                Self::spawn(command, &folder, &[], Expected { rtmp: true, limit: READY }).await
            })
            .await
    }

    async fn spawn(mut command: Command, folder: &Path, settings: &[(&str, &str)], expected: Expected) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (log, data) = (folder.join("serve.log"), folder.join("data"));
        let mut child = command
            .env("CREST_DATA_DIR", &data)
            .env("CREST_BOOTSTRAP_KEY", KEY)
            .env("CREST_HTTP__LISTEN", "127.0.0.1:0")
            .env("CREST_RTMP__LISTEN", "127.0.0.1:0")
            .env("CREST_SRT__LISTEN", "127.0.0.1:0")
            .env("CREST_WEBRTC__LISTEN", "127.0.0.1:0")
            .env("CREST_WEBHOOKS__ALLOW_PRIVATE", "true")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::options().create(true).append(true).open(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("crest cannot be started")?;
        let pid = child.id().context("crest has ended already")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("crest has no standard output")?);
        let begun = async {
            let told = tokio::time::timeout(expected.limit, addresses(stdout, expected.rtmp)).await;
            let (http, rtmp) = told.context("crest did not say where it listens")??;
            let operator = Api::new(&http, Some(KEY));
            let ready = || async {
                let status = operator.send(Method::GET, "/readyz", None).await?.status;
                Ok((status == StatusCode::OK).then_some(()))
            };
            wait_for("/readyz", expected.limit, ready).await.map(|()| (http, rtmp))
        };
        let begun = tokio::select! {
            begun = begun => begun,
            ended = child.wait() => Err(Ended(ended.context("waiting for crest")?).into()),
        };
        let (http, rtmp) = begun.with_context(|| tail(&log))?;
        Ok(Self { child, pid, _stdin: stdin, log, data, http, rtmp })
    }

    /// The API with the operator's key.
    pub fn as_operator(&self) -> Api {
        self.api(Some(KEY))
    }

    /// The API with this key, or none.
    pub fn api(&self, key: Option<&str>) -> Api {
        Api::new(&self.http, key)
    }

    /// The API as an organization of its own: nothing of other tests is seen.
    pub async fn tenant(&self) -> Result<Api> {
        Ok(self.tenant_with_key().await?.0)
    }

    /// The API as an organization of its own, and the organization's key.
    pub async fn tenant_with_key(&self) -> Result<(Api, String)> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("tenant {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = self.as_operator().post("/v1/organizations", json!({ "name": name })).await?;
        let key = made["api_key"].as_str().context("no api_key")?;
        Ok((self.api(Some(key)), key.to_owned()))
    }

    /// SIGTERM, and what becomes of it within `limit`.
    pub async fn terminate(mut self, limit: Duration) -> Result<ExitStatus> {
        signal("TERM", self.pid).await?;
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("crest did not stop within {} s of SIGTERM: {}", limit.as_secs(), tail(&self.log)),
        }
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("killing crest")
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.context("waiting for crest")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until this is in its log.
    pub async fn logged(&self, what: &str) -> Result<()> {
        let there = || async { Ok(std::fs::read_to_string(&self.log)?.contains(what).then_some(())) };
        wait_for(&format!("'{what}' in the log"), READY, there).await
    }

    /// The end of its log, for messages about what went wrong.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

/// Removes the logs of runs that are over.
fn forget_earlier_runs() {
    for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let over = name.strip_prefix("shared-").is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if over {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Reads the lines that tell the addresses, and goes on reading so that the pipe stays open.
async fn addresses(stdout: tokio::process::ChildStdout, with_rtmp: bool) -> Result<(String, String)> {
    let mut lines = BufReader::new(stdout).lines();
    let (mut http, mut rtmp) = (None, (!with_rtmp).then(String::new));
    while let Some(line) = lines.next_line().await? {
        http = line.strip_prefix("http listening on ").map(str::to_owned).or(http);
        rtmp = line.strip_prefix("rtmp listening on ").map(str::to_owned).or(rtmp);
        if let (Some(http), Some(rtmp)) = (&http, &rtmp) {
            let found = (http.clone(), rtmp.clone());
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(found);
        }
    }
    // Whoever waits for it sees its end.
    std::future::pending().await
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let from = text.lines().count().saturating_sub(15);
    format!("the end of crest's log:\n{}", text.lines().skip(from).collect::<Vec<_>>().join("\n"))
}

/// The API with one key.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Api {
    /// The API at this address.
    pub fn new(base: &str, key: Option<&str>) -> Self {
        Self { http: reqwest::Client::new(), base: base.to_owned(), key: key.map(str::to_owned) }
    }

    /// A request with headers and a body as they are.
    pub async fn raw(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Answer> {
        let path = path.strip_prefix(&self.base).unwrap_or(path);
        let mut request = self.http.request(method, format!("{}{path}", self.base)).timeout(Duration::from_secs(20));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await?.to_vec() })
    }

    /// A request with JSON, or without a body.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        match body {
            Some(json) => {
                let headers = [("content-type", "application/json")];
                self.raw(method, path, &headers, json.to_string().into_bytes()).await
            }
            None => self.raw(method, path, &[], Vec::new()).await,
        }
    }

    /// GET of what must be there.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.send(Method::GET, path, None).await?;
        ensure!(answer.status.is_success(), "GET {path}: {} {}", answer.status, answer.json());
        Ok(answer.json())
    }

    /// POST that must succeed.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        let answer = self.send(Method::POST, path, Some(body)).await?;
        ensure!(answer.status.is_success(), "POST {path}: {} {}", answer.status, answer.json());
        Ok(answer.json())
    }

    /// A counter or gauge of `/metrics`, summed over its labels; 0 where it is not there.
    pub async fn counter(&self, name: &str) -> Result<f64> {
        let metrics = self.raw(Method::GET, "/metrics", &[], Vec::new()).await?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let of = |line: &str| -> Option<f64> {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse().ok()).flatten()
        };
        Ok(text.lines().filter_map(of).sum())
    }
}
