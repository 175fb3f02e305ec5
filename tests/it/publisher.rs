//! Publishers: the real ffmpeg, paced like a live feed.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::harness::{Said, signal};

/// A running publisher. Dropping it kills it.
pub struct Publisher {
    child: Child,
    pid: u32,
    errors: JoinHandle<String>,
}

impl Publisher {
    /// Pushes a file with its own pace to `url`. `options` stand before the address: what to leave out.
    pub fn ffmpeg(file: &Path, options: &[&str], url: &str) -> Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-re", "-i"]).arg(file).args(["-c", "copy"]);
        command.args(options).args(["-f", "flv", url]);
        Self::start(command)
    }

    /// Pushes a file as [`Publisher::ffmpeg`] does, again and again.
    pub fn looped(file: &Path, url: &str) -> Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(file).args(["-c", "copy"]);
        command.args(["-f", "flv", url]);
        Self::start(command)
    }

    /// Starts any publisher.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the publisher cannot be started; `make setup` installs what the tests need")?;
        let pid = child.id().context("the publisher has ended already")?;
        let mut stderr = child.stderr.take().context("the publisher has no standard error")?;
        let errors = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, pid, errors })
    }

    /// Stops it in its tracks; the connection stays.
    pub async fn freeze(&self) -> Result<()> {
        signal("STOP", self.pid).await
    }

    /// Lets it go on.
    pub async fn thaw(&self) -> Result<()> {
        signal("CONT", self.pid).await
    }

    /// Kills it as a crash would: nothing is said to the server.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("killing the publisher")
    }

    /// Waits for its end.
    pub async fn end(mut self, limit: Duration) -> Result<Said> {
        let status = tokio::time::timeout(limit, self.child.wait()).await.context("the publisher did not end")??;
        Ok(Said { code: status.code(), out: Vec::new(), err: self.errors.await? })
    }
}
