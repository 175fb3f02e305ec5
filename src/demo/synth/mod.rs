//! The synthetic broadcast: a football match that never happened, drawn and voiced here, encoded by
//! ffmpeg once, so that publishing it in real time costs next to nothing.

mod canvas;
mod director;
mod picture;
mod play;
mod sound;
mod stadium;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::publish::missing_ffmpeg;
use super::script::Script;

/// Width of the picture in pixels.
pub const WIDTH: usize = 640;
/// Its height.
pub const HEIGHT: usize = 360;
/// Frames per second.
pub const FRAME_RATE: u64 = 30;

/// Frames that may wait for the encoder.
const WAITING: usize = 8;

/// How the broadcast is encoded: as a streaming program would, with a keyframe every 2 s and at cuts.
const ENCODER: &str = "-c:v libx264 -preset veryfast -profile:v high -crf 23 -maxrate 2500k -bufsize 5000k -g 60 \
     -pix_fmt yuv420p -c:a aac -b:a 128k -ac 2 -movflags +faststart";

/// Makes the broadcast of a script; `bar` counts its frames.
pub async fn make(script: &Script, file: &Path, bar: &ProgressBar) -> anyhow::Result<()> {
    let wav = file.with_extension("wav");
    let (plan, target) = (script.clone(), wav.clone());
    let voiced = tokio::task::spawn_blocking(move || sound::write(&plan, &target)).await?;
    voiced.with_context(|| format!("cannot write {}", wav.display()))?;
    let size = format!("{WIDTH}x{HEIGHT}");
    let rate = FRAME_RATE.to_string();
    let mut child = Command::new("ffmpeg")
        .args(["-y", "-nostdin", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p"])
        .args(["-s", &size, "-r", &rate, "-i", "pipe:0", "-i"])
        .arg(&wav)
        .args(ENCODER.split_whitespace())
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| missing_ffmpeg())?;
    let mut input = child.stdin.take().context("ffmpeg takes no input")?;
    let mut stderr = child.stderr.take().context("ffmpeg has no standard error")?;
    let errors = tokio::spawn(async move {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text).await;
        text
    });
    let mut frames = painted(script.clone());
    bar.set_length(picture::Painter::frames(script));
    while let Some(frame) = frames.recv().await {
        // Where ffmpeg gives up, its exit status and its words say more than the broken pipe.
        if input.write_all(&frame).await.is_err() {
            break;
        }
        bar.inc(1);
    }
    drop(input);
    let status = child.wait().await.context("ffmpeg cannot be waited for")?;
    let _ = tokio::fs::remove_file(&wav).await;
    bar.finish_and_clear();
    if !status.success() {
        let errors = errors.await.unwrap_or_default();
        bail!("ffmpeg could not encode the broadcast ({status}):\n  {}", errors.trim().replace('\n', "\n  "));
    }
    Ok(())
}

/// Draws in a thread of its own, no further ahead than the encoder needs.
fn painted(script: Script) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut painter = picture::Painter::new(&script);
        for _ in 0..picture::Painter::frames(&script) {
            let mut frame = Vec::with_capacity(WIDTH * HEIGHT * 3 / 2);
            painter.next(&mut frame);
            if send.blocking_send(frame).is_err() {
                return;
            }
        }
    });
    receive
}
