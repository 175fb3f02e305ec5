//! The feed that everybody gets, made once by ffmpeg.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Length of the feed before it begins again.
pub const SECONDS: u32 = 20;

/// 1080p60 H.264 of 6 Mbit/s with a keyframe every 2 s, stereo AAC of 48 kHz, as FLV. The noise makes the picture as
/// costly to encode as a game's.
pub async fn feed() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("density-{SECONDS}s.flv"));
    made(path, |command| {
        let picture = format!("testsrc2=size=1920x1080:rate=60:duration={SECONDS},noise=alls=10:allf=t");
        let sound = format!("anoisesrc=color=pink:amplitude=0.1:sample_rate=48000:duration={SECONDS}");
        command.args(["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound]);
        command.args(["-c:v", "libx264", "-preset", "veryfast", "-g", "120", "-sc_threshold", "0"]);
        command.args(["-pix_fmt", "yuv420p", "-b:v", "6M", "-maxrate", "6M", "-bufsize", "6M"]);
        command.args(["-c:a", "aac", "-b:a", "128k"]);
    })
    .await
}

/// The feed over and over, at least so many seconds of it, in the format that the extension says.
pub async fn looped(feed: &Path, seconds: u32, extension: &str) -> Result<PathBuf> {
    let rounds = seconds.div_ceil(SECONDS).max(1);
    let path = feed.with_file_name(format!("density-{}s.{extension}", rounds * SECONDS));
    made(path, |command| {
        command.args(["-stream_loop", &(rounds - 1).to_string()]).arg("-i").arg(feed).args(["-c", "copy"]);
    })
    .await
}

/// The file, by ffmpeg with these arguments where there is none yet.
async fn made(path: PathBuf, arguments: impl FnOnce(&mut Command)) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path);
    }
    eprintln!("making {}", path.display());
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_extension(format!("{}.{extension}", std::process::id()));
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]);
    arguments(&mut command);
    let status =
        command.arg(&unfinished).status().await.context("ffmpeg cannot be started; `make setup` installs it")?;
    ensure!(status.success(), "ffmpeg could not make {}", path.display());
    std::fs::rename(&unfinished, &path)?;
    Ok(path)
}
