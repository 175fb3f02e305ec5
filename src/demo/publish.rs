//! The broadcaster: ffmpeg, pushing the recorded broadcast over RTMP in real time.

use anyhow::{Context, bail};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How long it may take until the first frame leaves.
const FIRST_FRAME: Duration = Duration::from_secs(20);

/// The error where ffmpeg is missing.
pub fn missing_ffmpeg() -> crest_core::Error {
    crest_core::Error::user(
        "the demo needs the program ffmpeg, which is not installed; install it with `sudo apt-get install ffmpeg` \
         (Debian, Ubuntu), `sudo dnf install ffmpeg` (Fedora) or `brew install ffmpeg` (macOS), then run the demo again",
    )
}

/// A running publisher. Dropping it kills the process.
pub struct Publisher {
    child: Child,
    zero: watch::Receiver<Option<Instant>>,
    errors: tokio::task::JoinHandle<String>,
}

impl Publisher {
    /// Begins to publish `broadcast` to `url` (with the stream key), and waits for its first frame.
    pub async fn start(broadcast: &Path, url: &str) -> anyhow::Result<Self> {
        let mut child = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-nostats", "-progress", "pipe:1", "-stats_period", "0.1"])
            .args(["-re", "-i"])
            .arg(broadcast)
            .args(["-c", "copy", "-f", "flv", url])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|_| missing_ffmpeg())?;
        let progress = child.stdout.take().context("ffmpeg has no standard output")?;
        let mut stderr = child.stderr.take().context("ffmpeg has no standard error")?;
        let (tell, zero) = watch::channel(None);
        tokio::spawn(follow(progress, tell));
        let errors = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = (&mut stderr).take(64 * 1024).read_to_end(&mut text).await;
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut publisher = Self { child, zero, errors };
        let mut zero = publisher.zero.clone();
        let first = tokio::time::timeout(FIRST_FRAME, zero.wait_for(Option::is_some)).await.is_ok_and(|r| r.is_ok());
        if !first {
            let _ = publisher.child.start_kill();
            publisher.end().await?;
            bail!("ffmpeg sent nothing within {} s", FIRST_FRAME.as_secs());
        }
        Ok(publisher)
    }

    /// The instant at which second 0 of the broadcast was on air.
    pub fn zero(&self) -> Instant {
        (*self.zero.borrow()).unwrap_or_else(Instant::now)
    }

    /// Waits for the end of the broadcast.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await.context("ffmpeg cannot be waited for")?;
        if status.success() {
            return Ok(());
        }
        let errors = (&mut self.errors).await.unwrap_or_default();
        bail!("ffmpeg stopped publishing ({status}):\n  {}", errors.trim().replace('\n', "\n  "))
    }
}

/// Reads ffmpeg's own account of how far it is. A frame is never early, so the earliest reading of
/// the instant at which the broadcast began is the best one.
async fn follow(progress: tokio::process::ChildStdout, tell: watch::Sender<Option<Instant>>) {
    let mut lines = BufReader::new(progress).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(micros) = line.strip_prefix("out_time_us=").and_then(|t| t.parse::<u64>().ok()) else { continue };
        let Some(zero) = Instant::now().checked_sub(Duration::from_micros(micros)) else { continue };
        if micros > 0 && tell.borrow().is_none_or(|known| zero < known) {
            let _ = tell.send(Some(zero));
        }
    }
}
