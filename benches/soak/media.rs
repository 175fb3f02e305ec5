//! What is broadcast: short files made once by ffmpeg and published as they are, so that publishing
//! costs nothing.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// A broadcast of so many seconds.
pub struct Clip {
    name: &'static str,
    seconds: u32,
    size: &'static str,
    bitrate: &'static str,
}

/// What each of many streams sends.
pub const SHORT: Clip = Clip { name: "short", seconds: 8, size: "640x360", bitrate: "800k" };
/// What one stream sends over and over.
pub const LONG: Clip = Clip { name: "long", seconds: 60, size: "1280x720", bitrate: "2500k" };

impl Clip {
    /// The file, made where there is none yet.
    pub async fn file(&self) -> Result<PathBuf> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(folder)?;
        let Self { name, seconds, size, bitrate } = self;
        let path = folder.join(format!("soak-{name}-{seconds}-{size}-{bitrate}.mp4"));
        if path.exists() {
            return Ok(path);
        }
        let unfinished = path.with_extension(format!("{}.mp4", std::process::id()));
        let picture = format!("testsrc2=size={size}:rate=30:duration={seconds}");
        let sound = format!("anoisesrc=color=pink:amplitude=0.1:sample_rate=48000:duration={seconds}");
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound]);
        command.args(["-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-pix_fmt", "yuv420p", "-b:v", bitrate]);
        command.args(["-maxrate", bitrate, "-bufsize", bitrate, "-c:a", "aac", "-b:a", "128k"]).arg(&unfinished);
        let status = command.status().await.context("ffmpeg cannot be started; `make setup` installs it")?;
        ensure!(status.success(), "ffmpeg could not make {}", path.display());
        std::fs::rename(&unfinished, &path)?;
        Ok(path)
    }
}

/// Publishes a file at its own pace, once or until it is killed.
pub fn publish(file: &Path, endless: bool, url: &str) -> Result<Child> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error"]);
    if endless {
        command.args(["-stream_loop", "-1"]);
    }
    command.arg("-re").arg("-i").arg(file).args(["-c", "copy", "-f", "flv", url]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("ffmpeg cannot be started; `make setup` installs it")
}
