//! The real program, started as anyone would start it: `crest serve` as a child process.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::api::Api;

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(40);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(15);

/// How a process is started.
pub struct Start<'a> {
    /// Its roles, comma-separated.
    pub roles: &'a str,
    /// Its data directory.
    pub data: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// The operator's key.
    pub key: &'a str,
    /// A configuration file.
    pub config: Option<&'a Path>,
    /// Sections of the configuration that this program's own environment may set.
    pub keep: &'a [&'a str],
    /// Settings on top, as variables.
    pub settings: &'a [(String, String)],
}

/// A running `crest serve`. Dropping it kills the process.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Its roles.
    pub roles: String,
    /// `http://127.0.0.1:PORT`.
    pub http: String,
    /// `rtmp://127.0.0.1:PORT/live`, where it takes feeds.
    pub rtmp: Option<String>,
}

impl Process {
    /// Starts one on free ports and waits until it is ready.
    pub async fn start(how: Start<'_>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log = std::fs::File::create(&how.log).with_context(|| format!("cannot write {}", how.log.display()))?;
        let mut command = Command::new(program);
        // Settings of another crest on this machine are not meant for this one.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let Some(key) = name.strip_prefix("CREST_") else { continue };
            if !how.keep.iter().any(|section| key.strip_prefix(section).is_some_and(|rest| rest.starts_with("__"))) {
                command.env_remove(name.as_ref());
            }
        }
        command.args(["serve", "--roles", how.roles]);
        if let Some(config) = how.config {
            command.arg("--config").arg(config);
        }
        command
            .env("CREST_DATA_DIR", &how.data)
            .env("CREST_BOOTSTRAP_KEY", how.key)
            .env("CREST_HTTP__LISTEN", "127.0.0.1:0")
            .env("CREST_RTMP__LISTEN", "127.0.0.1:0")
            .env("CREST_SRT__LISTEN", "127.0.0.1:0")
            .env("CREST_WEBRTC__LISTEN", "127.0.0.1:0")
            .env("CREST_WEBHOOKS__ALLOW_PRIVATE", "true")
            .env("CREST_LOG__FORMAT", "text")
            .envs(how.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start `crest serve`")?;
        let stdout = child.stdout.take().context("`crest serve` has no standard output")?;
        let takes_feeds = how.roles.split(',').any(|role| matches!(role, "all" | "ingest"));
        let told = tokio::time::timeout(READY, addresses(stdout, takes_feeds)).await;
        let (roles, log) = (how.roles.to_owned(), how.log);
        let Ok(Ok((http, rtmp))) = told else {
            let _ = child.start_kill();
            bail!("`crest serve --roles {roles}` did not say where it listens\n{}", tail(&log));
        };
        let mut process = Self { child, log, roles, http, rtmp };
        process.ready(how.key).await?;
        Ok(process)
    }

    async fn ready(&mut self, key: &str) -> anyhow::Result<()> {
        let api = Api::new(&self.http, key)?;
        let limit = tokio::time::Instant::now() + READY;
        while !api.ready().await {
            if tokio::time::Instant::now() > limit || self.child.try_wait()?.is_some() {
                bail!("`crest serve --roles {}` did not become ready\n{}", self.roles, tail(&self.log));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// What there is to say where the process has ended on its own, which it should not.
    pub fn ended(&mut self) -> Option<anyhow::Error> {
        let status = match self.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let roles = &self.roles;
        Some(anyhow::anyhow!("`crest serve --roles {roles}` ended by itself ({status})\n{}", tail(&self.log)))
    }

    /// Stops it as an operator would, with SIGTERM; says what went wrong, if something did.
    pub async fn stop(mut self) -> Result<(), String> {
        if let Some(pid) = self.child.id() {
            let _ = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await;
        }
        let name = format!("`crest serve --roles {}`", self.roles);
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{name} ended with {status} after SIGTERM")),
            Ok(Err(error)) => Err(format!("{name} cannot be waited for: {error}")),
            Err(_) => Err(format!("{name} did not stop within {} s of SIGTERM", STOP.as_secs())),
        }
    }
}

/// Reads the lines that tell the addresses; keeps the pipe drained afterwards.
async fn addresses(stdout: ChildStdout, takes_feeds: bool) -> anyhow::Result<(String, Option<String>)> {
    let mut lines = BufReader::new(stdout).lines();
    let (mut http, mut rtmp) = (None, None);
    loop {
        let Some(line) = lines.next_line().await? else { bail!("it ended") };
        http = line.strip_prefix("http listening on ").map(|a| a.trim().to_owned()).or(http);
        rtmp = line.strip_prefix("rtmp listening on ").map(|a| a.trim().to_owned()).or(rtmp);
        if let Some(found) = &http
            && rtmp.is_some() == takes_feeds
        {
            let found = (found.clone(), rtmp);
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(found);
        }
    }
}

/// The end of a log, for an error message.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n  ");
    format!("  the end of {}:\n  {last}", path.display())
}
