//! Cameras that are pulled over RTSP: GStreamer's server, and files that it plays.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::origin::{self, LENGTH};
use super::stage::Stage;
use crate::harness::{probe, run};
use crate::services::free_port;
use crate::stored::{segments, span};

/// GStreamer's RTSP server with a file, however it is to play it.
struct Camera<'a> {
    file: &'a Path,
    /// How many of the file's audio tracks it has.
    sounds: usize,
    codec: &'a str,
    /// Any port where it is 0.
    port: u16,
    /// User and password, where it wants them.
    login: &'a [&'a str],
}

impl<'a> Camera<'a> {
    /// With the picture in H.264, and for everybody.
    fn of(file: &'a Path) -> Self {
        Self { file, sounds: 1, codec: "h264", port: 0, login: &[] }
    }

    /// Starts it; with its port. Dropping it stops it.
    async fn start(&self) -> Result<(Child, u16)> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/pull/gst_rtsp.py");
        // The system's own Python: that is where GStreamer's bindings are.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(self.file).args([&self.sounds.to_string(), self.codec, &self.port.to_string()]);
        let mut child = command
            .args(self.login)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the RTSP server cannot be started; `make setup` installs what the tests need")?;
        let stdout = child.stdout.take().context("the RTSP server has no output")?;
        let port = BufReader::new(stdout).lines().next_line().await?.context("the RTSP server ended at once")?;
        Ok((child, port.parse()?))
    }
}

/// The address of a camera of this machine.
fn address(port: u16) -> String {
    format!("rtsp://127.0.0.1:{port}/camera")
}

#[test]
fn a_camera_is_pulled_over_rtsp() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let (_server, port) = Camera::of(origin::source().await?).start().await?;
        let url = address(port);
        let stream = stage.pull(&url).await?;
        stage.until_state(&stream, "live").await?;
        stage.stored(&stream, 8.0).await?;
        ensure!(span(&stage.times(&stream, "a").await?) > 7.0, "there is sound, too");
        // Its frames are decoded in another order than they are shown in: each is shown when it was, but for the first
        // few, of which that is not known yet.
        let mut shown = stage.times(&stream, "v").await?;
        shown.sort_by(f64::total_cmp);
        let steps = shown.iter().zip(shown.iter().skip(1)).map(|(one, next)| next - one).skip(8);
        let (least, most) = steps.fold((1.0_f64, 0.0_f64), |(least, most), step| (least.min(step), most.max(step)));
        ensure!(least > 0.03 && most < 0.037, "frames of a thirtieth of a second are {least} to {most} s apart");
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
        let (_server, port) = Camera { sounds: 2, ..Camera::of(&file) }.start().await?;
        let url = address(port);
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
fn a_camera_with_a_password_that_sends_h265_is_pulled() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("h265.mp4");
        let (source, to) = (origin::source().await?.display().to_string(), file.display().to_string());
        let args =
            ["-nostdin", "-v", "error", "-i", &source, "-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1"];
        let options = ["-x265-params", "log-level=none:keyint=30:bframes=0", "-c:a", "copy", &to];
        crate::harness::succeed("ffmpeg", args.into_iter().chain(options)).await?;
        let camera = Camera { codec: "h265", login: &["viewer", "a secret"], ..Camera::of(&file) };
        let (_server, port) = camera.start().await?;
        for url in [address(port), address(port).replace("//", "//viewer:another@")] {
            let stranger = stage.pull(&url).await?;
            let shown = stage.until(&stranger, "a reason", |shown| shown["state_reason"].is_string()).await?;
            ensure!(shown["state_reason"].as_str().is_some_and(|why| why.contains("401")), "{shown}");
        }
        let stream = stage.pull(&address(port).replace("//", "//viewer:a%20secret@")).await?;
        stage.stored(&stream, 6.0).await?;
        let segment = segments(&stage.server.data, &stream).into_iter().next().context("no segment")?;
        assert_eq!(probe(&segment, "v", "stream=codec_name").await?, "hevc");
        ensure!(span(&stage.times(&stream, "a").await?) > 5.0, "there is sound, too");
        let log = std::fs::read_to_string(&stage.server.log)?;
        ensure!(!log.contains("secret"), "the password is in the log");
        Ok(())
    })
}

#[test]
fn a_camera_that_goes_away_is_pulled_again_when_it_is_back() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let camera = Camera { port: free_port()?, ..Camera::of(origin::source().await?) };
        let (mut server, port) = camera.start().await?;
        let stream = stage.pull(&address(port)).await?;
        stage.until_state(&stream, "live").await?;
        stage.stored(&stream, 2.0).await?;
        server.kill().await?;
        let shown = stage.until_state(&stream, "interrupted").await?;
        ensure!(shown["state_reason"].is_string(), "{shown}");
        let (_server, _) = camera.start().await?;
        let shown = stage.until_state(&stream, "live").await?;
        // The file begins again, and so does its time.
        assert_eq!(shown["session"], 2, "{shown}");
        Ok(())
    })
}
