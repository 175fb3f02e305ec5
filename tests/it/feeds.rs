//! Feeds that are not as they should be: refused, stalled, broken off, half there.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

use crate::broadcast;
use crate::harness::{program, run, succeed, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::{Api, Server};
use crate::stored;

const SOON: Duration = Duration::from_secs(20);

/// A stream of an organization of its own, with a webhook.
struct Stage {
    server: &'static Server,
    api: Api,
    receiver: Receiver,
    stream: String,
    url: String,
}

impl Stage {
    async fn set() -> Result<Self> {
        let server = Server::shared().await?;
        let api = server.tenant().await?;
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "a feed", "source": { "kind": "rtmp" } })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
        let (stream, key) = (text(&made["id"])?, text(&made["ingest"]["stream_key"])?);
        Ok(Self { server, api, receiver, stream, url: format!("{}/{key}", server.rtmp) })
    }

    async fn publish(&self, options: &[&str]) -> Result<Publisher> {
        Publisher::ffmpeg(broadcast::file().await?, options, &self.url)
    }

    async fn shown(&self) -> Result<Value> {
        self.api.get(&format!("/v1/streams/{}", self.stream)).await
    }

    async fn stop(&self) -> Result<()> {
        self.api.post(&format!("/v1/streams/{}/stop", self.stream), json!({})).await?;
        self.receiver.wait_for("stream.ended", 1, SOON).await.map(drop)
    }

    /// The segment files of this stream, over all sessions.
    fn segments(&self) -> Vec<PathBuf> {
        stored::segments(&self.server.data, &self.stream)
    }

    /// Waits until at least so many seconds of media are stored, and insists that they can be decoded.
    async fn stored(&self, seconds: f64) -> Result<()> {
        let enough = || async {
            let mut sum = 0.0;
            for segment in self.segments() {
                sum += packets_s(&segment).await?;
            }
            Ok((sum >= seconds).then_some(()))
        };
        wait_for("media to be stored", SOON, enough).await
    }
}

/// Seconds from the first packet of a file to its last.
async fn packets_s(file: &Path) -> Result<f64> {
    let mut times = stored::times(file, "v").await?;
    times.extend(stored::times(file, "a").await?);
    Ok(stored::span(&times))
}

#[test]
fn a_wrong_key_is_refused_and_the_publisher_shows_why() -> Result<()> {
    run(async {
        let server = Server::shared().await?;
        let url = format!("{}/not_a_key", server.rtmp);
        let said = Publisher::ffmpeg(broadcast::file().await?, &[], &url)?.end(SOON).await?;
        assert!(said.code.is_some_and(|code| code != 0), "{said:?}");
        assert!(said.err.contains("unknown stream key"), "{}", said.err);
        let url = format!("{}/not_a_key", server.rtmp.replace("/live", "/elsewhere"));
        let said = Publisher::ffmpeg(broadcast::file().await?, &[], &url)?.end(SOON).await?;
        assert!(said.code.is_some_and(|code| code != 0), "{said:?}");
        assert!(said.err.contains("no such application"), "{}", said.err);
        Ok(())
    })
}

#[test]
fn a_second_publisher_is_refused_and_the_first_goes_on() -> Result<()> {
    run(async {
        let stage = Stage::set().await?;
        let _first = stage.publish(&[]).await?;
        stage.receiver.wait_for("stream.started", 1, SOON).await?;
        let second = stage.publish(&[]).await?.end(SOON).await?;
        assert!(second.code.is_some_and(|code| code != 0), "{second:?}");
        assert!(second.err.contains("fed already"), "{}", second.err);
        assert_eq!(stage.shown().await?["state"], "live");
        stage.stop().await?;
        let late = stage.publish(&[]).await?.end(SOON).await?;
        assert!(late.err.contains("is over"), "{}", late.err);
        Ok(())
    })
}

#[test]
fn chat_and_marks_are_taken_while_it_is_live() -> Result<()> {
    run(async {
        let stage = Stage::set().await?;
        let publisher = stage.publish(&[]).await?;
        stage.receiver.wait_for("stream.started", 1, SOON).await?;
        let (chat, marks) =
            (format!("/v1/streams/{}/chat", stage.stream), format!("/v1/streams/{}/markers", stage.stream));
        let batch = json!({ "messages": [
            { "t": 0.5, "user": "ana", "text": "wow" },
            { "at": stage.shown().await?["updated_at"], "user": "ben", "text": "WOW", "emotes": ["Kappa"] },
        ] });
        assert_eq!(stage.api.post(&chat, batch.clone()).await?, json!({ "accepted": 2 }));
        let mark = stage.api.post(&marks, json!({ "t": 1.0, "label": "look at this" })).await?;
        assert_eq!((&mark["t"], &mark["session"]), (&json!(1.0), &json!(1)), "{mark}");
        // A mark makes a highlight by itself, whatever the rest of the feed is like.
        let marked = stage.receiver.wait_for("highlight.detected", 1, SOON).await?.data();
        stage.stored(5.0).await?;
        publisher.kill().await?;
        stage.stop().await?;
        let ready = stage.receiver.wait_for("highlight.ready", 1, SOON).await?.data();
        assert_eq!((&ready["id"], ready["start_s"].as_f64()), (&marked["id"], Some(0.0)), "{ready:#}");
        let late = stage.api.send(reqwest::Method::POST, &chat, Some(batch)).await?;
        assert_eq!((late.status.as_u16(), &late.json()["code"]), (409, &json!("stream_over")));
        Ok(())
    })
}

#[test]
fn a_stall_of_ten_seconds_does_not_end_the_session() -> Result<()> {
    run(async {
        let stage = Stage::set().await?;
        let publisher = stage.publish(&[]).await?;
        stage.receiver.wait_for("stream.started", 1, SOON).await?;
        stage.stored(2.0).await?;
        publisher.freeze().await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        publisher.thaw().await?;
        // ffmpeg catches up: more media than there was room for before the stall.
        stage.stored(13.0).await?;
        let shown = stage.shown().await?;
        assert_eq!((&shown["state"], &shown["session"]), (&json!("live"), &json!(1)), "{shown}");
        stage.stop().await?;
        assert_eq!(stage.receiver.kinds(), ["stream.started", "stream.ended"]);
        Ok(())
    })
}

#[test]
fn a_broken_connection_that_comes_back_continues_the_stream() -> Result<()> {
    run(async {
        let stage = Stage::set().await?;
        let publisher = stage.publish(&[]).await?;
        stage.receiver.wait_for("stream.started", 1, SOON).await?;
        stage.stored(2.0).await?;
        publisher.kill().await?;
        stage.receiver.wait_for("stream.interrupted", 1, SOON).await?;
        assert_eq!(stage.shown().await?["state"], "interrupted");
        // It begins again at 0: a new timeline, hence a new session of the same stream.
        let publisher = stage.publish(&[]).await?;
        let resumed = stage.receiver.wait_for("stream.resumed", 1, SOON).await?.data();
        assert_eq!((&resumed["stream_id"], &resumed["session"]), (&json!(stage.stream), &json!(2)), "{resumed}");
        let shown = stage.shown().await?;
        assert_eq!((&shown["state"], &shown["session"]), (&json!("live"), &json!(2)), "{shown}");
        stage.stored(4.0).await?;
        publisher.kill().await?;
        stage.stop().await?;
        let kinds = stage.receiver.kinds();
        assert_eq!(kinds[..3], ["stream.started", "stream.interrupted", "stream.resumed"], "{kinds:?}");
        Ok(())
    })
}

#[test]
fn sound_alone_and_picture_alone_are_feeds_too() -> Result<()> {
    run(async {
        for (options, streams) in [(["-vn"], "aac"), (["-an"], "h264")] {
            let stage = Stage::set().await?;
            let publisher = stage.publish(&options).await?;
            stage.receiver.wait_for("stream.started", 1, SOON).await?;
            stage.stored(5.0).await?;
            assert_eq!(stage.shown().await?["state"], "live");
            publisher.kill().await?;
            stage.stop().await?;
            let segment = stage.segments().into_iter().next().context("no segment")?;
            let args = ["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"];
            let args = args.iter().map(std::ffi::OsStr::new).chain([segment.as_os_str()]);
            assert_eq!(succeed("ffprobe", args).await?.text().trim(), streams);
        }
        Ok(())
    })
}

#[test]
fn gstreamer_can_publish() -> Result<()> {
    run(async {
        let known = program("gst-inspect-1.0", ["rtmp2sink"], SOON).await.context("gst-inspect-1.0")?;
        ensure!(known.code == Some(0), "GStreamer has no rtmp2sink; `make setup` installs it");
        let stage = Stage::set().await?;
        let mut command = Command::new("gst-launch-1.0");
        command.args([
            "-q",
            "videotestsrc",
            "is-live=true",
            "!",
            "video/x-raw,width=320,height=180,framerate=30/1",
            "!",
        ]);
        command.args([
            "x264enc",
            "tune=zerolatency",
            "speed-preset=ultrafast",
            "key-int-max=60",
            "!",
            "h264parse",
            "!",
        ]);
        command
            .args(["flvmux", "streamable=true", "name=mux", "!", "rtmp2sink"])
            .arg(format!("location={}", stage.url));
        command.args(["audiotestsrc", "is-live=true", "!", "avenc_aac", "!", "aacparse", "!", "mux."]);
        let publisher = Publisher::start(command)?;
        stage.receiver.wait_for("stream.started", 1, SOON).await?;
        stage.stored(3.0).await?;
        publisher.kill().await?;
        stage.stop().await
    })
}
