//! Other things than playlists: cameras, files, pages.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::origin::{self, LENGTH, Origin};
use super::stage::Stage;
use crate::harness::{probe, run};
use crate::stored::{segments, span};

/// GStreamer's RTSP server with the picture of a file and so many of its audio tracks. Dropping it stops it.
async fn camera(file: &Path, sounds: usize) -> Result<(Child, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/pull/gst_rtsp.py");
    // The system's own Python: that is where GStreamer's bindings are.
    let mut child = Command::new("/usr/bin/python3")
        .arg(script)
        .arg(file)
        .arg(sounds.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("the RTSP server cannot be started; `make setup` installs what the tests need")?;
    let stdout = child.stdout.take().context("the RTSP server has no output")?;
    let port = BufReader::new(stdout).lines().next_line().await?.context("the RTSP server ended at once")?;
    Ok((child, format!("rtsp://127.0.0.1:{port}/camera")))
}

#[test]
fn a_camera_is_pulled_over_rtsp() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let (_server, url) = camera(origin::source().await?, 1).await?;
        let stream = stage.pull(&url).await?;
        stage.until_state(&stream, "live").await?;
        stage.stored(&stream, 8.0).await?;
        ensure!(span(&stage.times(&stream, "a").await?) > 7.0, "there is sound, too");
        let nowhere = stage.pull(&url.replace("/camera", "/garden")).await?;
        let shown = stage.until(&nowhere, "a reason", |shown| shown["state_reason"].is_string()).await?;
        ensure!(shown["state_reason"].as_str().is_some_and(|why| why.contains("404")), "{shown}");
        Ok(())
    })
}

#[test]
fn of_two_audio_tracks_of_a_camera_the_chosen_one_is_stored() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("two.mp4");
        let (source, to) = (origin::source().await?.display().to_string(), file.display().to_string());
        let second = format!("sine=frequency=1000:sample_rate=32000:duration={LENGTH}");
        let args = ["-nostdin", "-v", "error", "-i", &source, "-f", "lavfi", "-i", &second];
        let tracks = ["-map", "0:v", "-map", "0:a", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", &to];
        crate::harness::succeed("ffmpeg", args.into_iter().chain(tracks)).await?;
        let (_server, url) = camera(&file, 2).await?;
        let mut streams = Vec::new();
        for (track, rate) in [(None, "48000"), (Some(1), "32000"), (Some(2), "")] {
            let source = json!({ "kind": "url", "url": url, "audio_track": track });
            let made = stage.api.post("/v1/streams", json!({ "name": "a camera", "source": source })).await?;
            let stream = made["id"].as_str().context("a stream without id")?;
            stage.stored(stream, 4.0).await?;
            let segment = segments(&stage.server.data, stream).into_iter().next().context("no segment")?;
            assert_eq!(probe(&segment, "a", "stream=sample_rate").await?, rate, "{track:?}");
            stage.api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
            streams.push(stream.to_owned());
        }
        let log = std::fs::read_to_string(&stage.server.log)?;
        let told = "the audio track that was chosen is not there; the feed has no sound";
        let of = |stream: &str| log.lines().any(|line| line.contains(told) && line.contains(stream));
        let lacking: Vec<bool> = streams.iter().map(|stream| of(stream)).collect();
        assert_eq!(lacking, [false, false, true], "{}", stage.server.log_tail());
        Ok(())
    })
}

#[test]
fn files_are_pulled_whatever_they_are_packed_in() -> Result<()> {
    run(async {
        let origin = Origin::start().await?;
        let folder = origin.folder.path().display().to_string();
        let stage = Stage::set(&[("CREST_PULL__FILES", &folder)]).await?;
        let source = origin::source().await?;
        std::fs::copy(source, origin.path("file.mp4"))?;
        for name in ["file.ts", "file.mkv"] {
            let to = origin.path(name);
            let args =
                ["-v", "error", "-i", source.to_str().context("text")?, "-c", "copy", to.to_str().context("text")?];
            crate::harness::succeed("ffmpeg", args).await?;
        }
        let mut urls: Vec<_> = ["file.mp4", "file.ts", "file.mkv"].iter().map(|name| origin.url(name)).collect();
        urls.push(format!("file://{folder}/file.mp4"));
        let mut streams = Vec::new();
        for url in urls {
            streams.push((stage.pull(&url).await?, url));
        }
        for (stream, url) in streams {
            let shown = stage.until_state(&stream, "ended").await?;
            assert_eq!(shown["state_reason"], "the file is over", "{url}");
            let (video, audio) = (stage.times(&stream, "v").await?, stage.times(&stream, "a").await?);
            ensure!(span(&video) > LENGTH - 0.5 && span(&audio) > LENGTH - 0.5, "{url}: {} s", span(&video));
        }
        let outside = stage.pull(&format!("file://{folder}/../../etc/passwd")).await?;
        let shown = stage.until_state(&outside, "failed").await?;
        ensure!(shown["state_reason"].as_str().is_some_and(|why| why.contains("no such file")), "{shown}");
        let left = std::fs::read_dir(stage.server.data.join("pull")).map(Iterator::count).unwrap_or(0);
        assert_eq!(left, 0, "nothing that was fetched stays behind");
        Ok(())
    })
}
