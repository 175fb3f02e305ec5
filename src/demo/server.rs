//! The real program, started as anyone would start it: `crest serve` as a child process.

use anyhow::{Context, bail};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::api::Api;

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(40);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(15);

/// A running `crest serve`. Dropping it kills the process.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub http: String,
    /// `rtmp://127.0.0.1:PORT/live`.
    pub rtmp: String,
}

impl Server {
    /// Starts it on free ports, with its data in `out/data` and its log in `out/serve.log`, and waits
    /// until it is ready.
    pub async fn start(out: &Path, key: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log_path = out.join("serve.log");
        let log = std::fs::File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
        let mut command = Command::new(program);
        // Settings of another crest on this machine are not meant for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CREST_")) {
            command.env_remove(name);
        }
        command
            .arg("serve")
            .env("CREST_DATA_DIR", out.join("data"))
            .env("CREST_BOOTSTRAP_KEY", key)
            .env("CREST_HTTP__LISTEN", "127.0.0.1:0")
            .env("CREST_RTMP__LISTEN", "127.0.0.1:0")
            .env("CREST_WEBHOOKS__ALLOW_PRIVATE", "true")
            .env("CREST_LOG__FORMAT", "text")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start `crest serve`")?;
        let stdout = child.stdout.take().context("`crest serve` has no standard output")?;
        let told = tokio::time::timeout(READY, addresses(stdout)).await;
        let Ok(Ok((http, rtmp))) = told else {
            let _ = child.start_kill();
            bail!("`crest serve` did not say where it listens\n{}", tail(&log_path));
        };
        let mut server = Self { child, http, rtmp };
        let api = Api::new(&server.http, key)?;
        let limit = tokio::time::Instant::now() + READY;
        while !api.ready().await {
            if tokio::time::Instant::now() > limit || server.child.try_wait()?.is_some() {
                bail!("`crest serve` did not become ready\n{}", tail(&log_path));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(server)
    }

    /// Comes back only if the process ends on its own, which it should not.
    pub async fn died(&mut self, out: &Path) -> anyhow::Error {
        let status = self.child.wait().await.map_or_else(|e| e.to_string(), |s| s.to_string());
        anyhow::anyhow!("`crest serve` ended by itself ({status})\n{}", tail(&out.join("serve.log")))
    }

    /// Stops it as an operator would, with SIGTERM; says what went wrong, if something did.
    pub async fn stop(mut self) -> Result<(), String> {
        if let Some(pid) = self.child.id() {
            let _ = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await;
        }
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("`crest serve` ended with {status} after SIGTERM")),
            Ok(Err(error)) => Err(format!("`crest serve` cannot be waited for: {error}")),
            Err(_) => Err(format!("`crest serve` did not stop within {} s of SIGTERM", STOP.as_secs())),
        }
    }
}

/// Reads the lines that tell the addresses; keeps the pipe drained afterwards.
async fn addresses(stdout: tokio::process::ChildStdout) -> anyhow::Result<(String, String)> {
    let mut lines = BufReader::new(stdout).lines();
    let (mut http, mut rtmp) = (None, None);
    loop {
        let Some(line) = lines.next_line().await? else { bail!("it ended") };
        http = line.strip_prefix("http listening on ").map(|a| a.trim().to_owned()).or(http);
        rtmp = line.strip_prefix("rtmp listening on ").map(|a| a.trim().to_owned()).or(rtmp);
        if let (Some(http), Some(rtmp)) = (&http, &rtmp) {
            let found = (http.clone(), rtmp.clone());
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(found);
        }
    }
}

/// The end of a log, for an error message.
pub fn tail(path: &Path) -> String {
    let text = std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n  ");
    format!("  the end of {}:\n  {last}", path.display())
}
