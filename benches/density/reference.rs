//! What crest is compared with: the least that seeing and hearing a feed costs, and what it costs without leaving
//! anything out. Neither receives anything from a network, stores, analyses or decides.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

use crate::table::processor_seconds;

/// Keyframes to 224x224 RGB and sound to 16 kHz mono by a GStreamer pipeline.
pub async fn floor(file: &Path) -> Result<f64> {
    let video = "src.video ! queue ! h264parse ! identity drop-buffer-flags=delta-unit ! avdec_h264 max-threads=1 \
                 ! videoconvertscale add-borders=false ! video/x-raw,format=RGB,width=224,height=224 ! fakesink";
    let audio = "src.audio ! queue ! aacparse ! avdec_aac ! audioconvert ! audioresample \
                 ! audio/x-raw,format=F32LE,rate=16000,channels=1 ! fakesink";
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "filesrc", &format!("location={}", file.display()), "!", "flvdemux", "name=src"]);
    command.args(video.split_whitespace()).args(audio.split_whitespace());
    cost(command).await
}

/// Every frame decoded, two a second of them as 224x224 RGB, and sound to 16 kHz mono.
pub async fn decode(file: &Path) -> Result<f64> {
    ffmpeg(file, &[], &["-vf", "fps=2,scale=224:224"]).await
}

/// Keyframes alone to 224x224 RGB, and sound to 16 kHz mono.
pub async fn keyframes(file: &Path) -> Result<f64> {
    ffmpeg(file, &["-skip_frame", "nokey"], &["-fps_mode", "passthrough", "-vf", "scale=224:224"]).await
}

async fn ffmpeg(file: &Path, decoder: &[&str], video: &[&str]) -> Result<f64> {
    let mut command = Command::new("ffmpeg");
    // One thread: more of them make it faster, not cheaper.
    command.args(["-nostdin", "-v", "error", "-threads", "1"]).args(decoder).arg("-i").arg(file);
    command.args(["-map", "0:v"]).args(video).args(["-pix_fmt", "rgb24", "-f", "null", "-"]);
    command.args(["-map", "0:a", "-ar", "16000", "-ac", "1", "-f", "null", "-"]);
    cost(command).await
}

/// Seconds of processor time that a program takes from start to end.
pub async fn cost(mut command: Command) -> Result<f64> {
    let before = processor_seconds().1;
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let ran = command.spawn().with_context(|| format!("{name} cannot be started; `make setup` installs it"))?;
    let ran = ran.wait_with_output().await?;
    ensure!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(processor_seconds().1 - before)
}
