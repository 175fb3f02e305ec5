//! Playlists that GStreamer's `hlssink2` packs, recorded and live, and nginx serves.

use anyhow::{Result, ensure};
use std::path::Path;
use tokio::process::Command;

use super::nginx::nginx;
use super::origin::{self, LENGTH};
use super::stage::{SOON, Stage};
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::stored::span;

/// Packs the source into two-second pieces in this folder: all of it at once, or at the pace it plays at with old
/// pieces removed.
async fn pack(folder: &Path, live: bool) -> Result<Publisher> {
    let mut command = Command::new("gst-launch-1.0");
    command.current_dir(folder).args(["-q", "-e", "filesrc"]);
    command.arg(format!("location={}", origin::source().await?.display())).args(["!", "qtdemux", "name=file"]);
    command.args(["hlssink2", "name=pieces", "target-duration=2", "location=%05d.ts", "playlist-location=list.m3u8"]);
    command.args(if live { ["playlist-length=3", "max-files=4"] } else { ["playlist-length=0", "max-files=0"] });
    let paced = format!("sync={live}");
    command.args(["file.video_0", "!", "queue", "!", "h264parse", "!", "identity", &paced, "!", "pieces.video"]);
    command.args(["file.audio_0", "!", "queue", "!", "aacparse", "!", "pieces.audio"]);
    Publisher::start(command)
}

/// Waits until the playlist says that nothing follows. (The program does not always end by itself then.)
async fn finished(folder: &Path) -> Result<()> {
    let ended = || async {
        let listed = std::fs::read_to_string(folder.join("list.m3u8"))?;
        Ok(listed.contains("#EXT-X-ENDLIST").then_some(()))
    };
    wait_for("the end of the playlist", SOON, ended).await
}

#[test]
fn what_gstreamer_packs_is_pulled_whole() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let _encoder = pack(folder.path(), false).await?;
        finished(folder.path()).await?;
        let (_nginx, address) = nginx(folder.path()).await?;
        let stage = Stage::set(&[]).await?;
        let stream = stage.pull(&format!("{address}/list.m3u8")).await?;
        stage.until_state(&stream, "ended").await?;
        for kind in ["v", "a"] {
            let times = stage.times(&stream, kind).await?;
            ensure!((span(&times) - LENGTH).abs() < 0.2, "{kind}: {} s", span(&times));
        }
        Ok(())
    })
}

#[test]
fn what_gstreamer_packs_live_is_followed_to_its_end() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let stage = Stage::set(&[]).await?;
        let _encoder = pack(folder.path(), true).await?;
        let listed = || async { Ok(folder.path().join("list.m3u8").exists().then_some(())) };
        wait_for("the playlist", SOON, listed).await?;
        let (_nginx, address) = nginx(folder.path()).await?;
        let stream = stage.pull(&format!("{address}/list.m3u8")).await?;
        finished(folder.path()).await?;
        stage.until_state(&stream, "ended").await?;
        let shown = stage.shown(&stream).await?;
        assert_eq!(shown["session"], 1, "{shown}");
        let mut times = stage.times(&stream, "v").await?;
        times.sort_by(f64::total_cmp);
        let gap = times.iter().zip(times.iter().skip(1)).map(|(one, next)| next - one).fold(0.0, f64::max);
        ensure!(gap < 0.1, "{gap} s are missing");
        // It was joined when it had just begun; what is listed last is read to its end.
        ensure!(span(&times) > LENGTH / 2.0, "{} s of {LENGTH}", span(&times));
        Ok(())
    })
}
