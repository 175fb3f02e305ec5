//! Publishers over SRT: ffmpeg and GStreamer, with and without a passphrase, and callers that are neither.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

use crate::harness::{probe, run, succeed, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::{Api, Server};

const SOON: Duration = Duration::from_secs(20);

/// A stream that comes over SRT, of an organization of its own, with a webhook.
struct Stage<'a> {
    server: &'a Server,
    api: Api,
    receiver: Receiver,
    stream: String,
    key: String,
    /// All of the address.
    url: String,
}

impl<'a> Stage<'a> {
    async fn set(server: &'a Server) -> Result<Self> {
        Self::of(server, json!({ "kind": "srt" })).await
    }

    async fn of(server: &'a Server, source: Value) -> Result<Self> {
        let api = server.tenant().await?;
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "a feed", "source": source })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
        ensure!(made["ingest"]["rtmp_url"] == Value::Null, "{made}");
        let (stream, key) = (text(&made["id"])?, text(&made["ingest"]["stream_key"])?);
        let url = text(&made["ingest"]["srt_url"])?;
        ensure!(url.starts_with("srt://127.0.0.1:") && url.ends_with(&format!("?streamid={key}")), "{url}");
        Ok(Self { server, api, receiver, stream, key, url })
    }

    /// Server and port.
    fn address(&self) -> &str {
        self.url.split_once('?').map_or(&self.url, |(address, _)| address)
    }

    fn publish(&self) -> Result<Publisher> {
        ffmpeg(&["-f", "mpegts", &self.url])
    }

    async fn is(&self, event: &str, count: usize) -> Result<()> {
        self.receiver.wait_for(event, count, SOON).await.map(drop).with_context(|| self.server.log_tail())
    }

    async fn state(&self) -> Result<Value> {
        Ok(self.api.get(&format!("/v1/streams/{}", self.stream)).await?["state"].clone())
    }

    async fn stop(&self) -> Result<()> {
        self.api.post(&format!("/v1/streams/{}/stop", self.stream), json!({})).await?;
        self.is("stream.ended", 1).await
    }

    /// Waits until a segment of this session holds so many pictures, and what codecs it has.
    async fn stored(&self, session: u32, pictures: usize) -> Result<String> {
        let look = || async {
            for file in files(&self.server.data.join("media")) {
                let of_it = file.components().any(|c| c.as_os_str() == self.stream.as_str());
                if !of_it || file.extension().is_none_or(|e| e != "mp4") {
                    continue;
                }
                let args = ["-v", "error", "-show_entries", "packet=codec_type", "-of", "csv=p=0"];
                let said = succeed("ffprobe", args.iter().map(|a| (*a).into()).chain([file.clone().into_os_string()]));
                let found = said.await?.text().lines().filter(|line| line.contains("video")).count();
                if found >= pictures {
                    let args = ["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"];
                    let args = args.iter().map(|a| (*a).into()).chain([file.into_os_string()]);
                    return Ok(Some(succeed("ffprobe", args).await?.text()));
                }
            }
            Ok(None)
        };
        wait_for(&format!("media of session {session}"), SOON, look).await
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A picture and a tone without end, small, with these options for where they go.
fn ffmpeg(to: &[&str]) -> Result<Publisher> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=25"]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=440:r=48000", "-c:v", "libx264", "-preset", "ultrafast"]);
    command.args(["-tune", "zerolatency", "-g", "25", "-c:a", "aac"]).args(to);
    Publisher::start(command)
}

#[test]
fn of_two_audio_tracks_the_chosen_one_is_stored() -> Result<()> {
    run(async {
        for (source, rate) in
            [(json!({ "kind": "srt", "audio_track": 1 }), "32000"), (json!({ "kind": "srt" }), "48000")]
        {
            let stage = Stage::of(Server::shared().await?, source).await?;
            // Silence, and then a tone.
            let second = ["-re", "-f", "lavfi", "-i", "sine=1000:r=32000", "-map", "0", "-map", "1", "-map", "2"];
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=25"]);
            command.args(["-re", "-f", "lavfi", "-i", "anullsrc=r=48000:cl=mono"]).args(second);
            command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25"]);
            command.args(["-c:a", "aac", "-f", "mpegts", &stage.url]);
            let _publisher = Publisher::start(command)?;
            stage.is("stream.started", 1).await?;
            stage.stored(1, 50).await?;
            let of_it = |path: &PathBuf| path.components().any(|part| part.as_os_str() == stage.stream.as_str());
            let mut segments = files(&stage.server.data.join("media")).into_iter().filter(of_it);
            let segment = segments.find(|path| path.extension().is_some_and(|e| e == "mp4")).context("no segment")?;
            assert_eq!(probe(&segment, "a", "stream=sample_rate").await?, rate);
            stage.stop().await?;
        }
        Ok(())
    })
}

#[test]
fn a_feed_comes_in_is_stored_breaks_off_comes_back_and_is_stopped() -> Result<()> {
    run(async {
        let stage = Stage::set(Server::shared().await?).await?;
        let first = stage.publish()?;
        stage.is("stream.started", 1).await?;
        assert_eq!(stage.state().await?, "live");
        let codecs = stage.stored(1, 50).await?;
        assert!(codecs.contains("h264") && codecs.contains("aac"), "{codecs}");
        first.kill().await?;
        stage.is("stream.interrupted", 1).await?;
        let second = stage.publish()?;
        stage.is("stream.resumed", 1).await?;
        stage.stop().await?;
        let said = second.end(SOON).await?;
        assert!(said.code.is_some_and(|code| code != 0), "the publisher did not notice: {said:?}");
        assert_eq!(stage.state().await?, "ended");
        Ok(())
    })
}

#[test]
fn gstreamer_publishes_h265_by_the_access_control_syntax() -> Result<()> {
    run(async {
        let stage = Stage::set(Server::shared().await?).await?;
        let mut command = Command::new("gst-launch-1.0");
        command.args(["-q", "videotestsrc", "is-live=true", "!", "video/x-raw,width=160,height=120,framerate=25/1"]);
        command.args([
            "!",
            "x265enc",
            "speed-preset=ultrafast",
            "tune=zerolatency",
            "key-int-max=25",
            "!",
            "h265parse",
        ]);
        command.args(["!", "mpegtsmux", "alignment=7", "!", "srtsink", "wait-for-connection=false"]);
        command.arg(format!("uri={}", stage.address()));
        command.arg(format!("streamid=#!::r={},m=publish,u=me", stage.key));
        let publisher = Publisher::start(command)?;
        stage.is("stream.started", 1).await?;
        assert!(stage.stored(1, 50).await?.contains("hevc"));
        stage.stop().await?;
        publisher.kill().await
    })
}

#[test]
fn only_publishers_with_the_passphrase_are_taken() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let secret = "open sesame 42";
        let server = Server::start_with(folder.path(), &[("CREST_SRT__PASSPHRASE", secret)]).await?;
        let stage = Stage::set(&server).await?;
        assert!(!stage.url.contains("sesame"), "{}", stage.url);
        // Callers that would speak without being understood, too.
        let other = ["-passphrase", "open barley 42", "-enforced_encryption", "0"];
        for wrong in [&other[..2], &[], &other, &other[2..]] {
            let said = ffmpeg(&[wrong, &["-f", "mpegts", &stage.url]].concat())?.end(SOON).await?;
            assert!(said.code.is_some_and(|code| code != 0), "{said:?}");
            assert_eq!(stage.state().await?, "created");
        }
        server.logged("its passphrase is not that of srt.passphrase").await?;
        server.logged("it has no passphrase, and srt.passphrase is set").await?;
        let publisher = ffmpeg(&["-passphrase", secret, "-f", "mpegts", &stage.url])?;
        stage.is("stream.started", 1).await?;
        stage.stored(1, 50).await?;
        publisher.kill().await?;
        let log = std::fs::read_to_string(&server.log)?;
        assert!(log.contains("SRT publishers are accepted") && log.contains("encrypted=true"), "{log}");
        assert!(!log.contains("sesame") && !log.contains(&stage.key), "a secret is in the log");
        Ok(())
    })
}

#[test]
fn a_passphrase_where_none_is_set_is_refused() -> Result<()> {
    run(async {
        let stage = Stage::set(Server::shared().await?).await?;
        let said = ffmpeg(&["-passphrase", "open sesame 42", "-f", "mpegts", &stage.url])?.end(SOON).await?;
        assert!(said.code.is_some_and(|code| code != 0), "{said:?}");
        stage.server.logged("it has a passphrase, and srt.passphrase is not set").await?;
        let publisher = stage.publish()?;
        stage.is("stream.started", 1).await?;
        publisher.kill().await
    })
}

#[test]
fn many_publish_on_one_port_and_strangers_do_them_no_harm() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &[]).await?;
        let (one, two) = (Stage::set(&server).await?, Stage::set(&server).await?);
        assert_eq!(one.address(), two.address());
        let publishers = [one.publish()?, two.publish()?];
        one.is("stream.started", 1).await?;
        two.is("stream.started", 1).await?;

        // Garbage, and handshakes that are not gone through with.
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let port = one.address().trim_start_matches("srt://").to_owned();
        for at in 0..64_u32 {
            let garbage: Vec<u8> = (0..at * 20).map(|i| (i.wrapping_mul(at + 7) >> 3) as u8).collect();
            socket.send_to(&garbage, &port)?;
        }
        for at in 0..500_u32 {
            let mut induction = vec![0; 64];
            induction[0] = 0x80;
            for (place, value) in [(16, 4_u32), (20, 2), (24, at), (28, 1500), (32, 8192), (36, 1), (40, at + 1)] {
                induction[place..place + 4].copy_from_slice(&value.to_be_bytes());
            }
            socket.send_to(&induction, &port)?;
        }

        // A wrong key, a stream that is fed already, one that wants to play, one without a name.
        let address = one.address().to_owned();
        let play = format!("#!::r={},m=request", one.key);
        for stream_id in ["not_a_key", &one.key, &play, ""] {
            let mut to = vec!["-f", "mpegts"];
            if !stream_id.is_empty() {
                to.extend(["-srt_streamid", stream_id]);
            }
            to.push(&address);
            let said = ffmpeg(&to)?.end(SOON).await?;
            assert!(said.code.is_some_and(|code| code != 0), "'{stream_id}' was taken: {said:?}");
        }
        let refused = one.api.counter("crest_srt_connections_refused_total").await?;
        assert!(refused > 3.5, "{refused} were refused: {}", server.log_tail());

        for stage in [&one, &two] {
            stage.stored(1, 100).await?;
            assert_eq!(stage.state().await?, "live");
            assert_eq!(stage.receiver.received().iter().filter(|r| r.kind() == "stream.interrupted").count(), 0);
        }
        for publisher in publishers {
            publisher.kill().await?;
        }
        Ok(())
    })
}

#[test]
fn what_is_no_transport_stream_is_told_and_ended() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &[("CREST_SRT__IDLE", "2s")]).await?;
        let stage = Stage::set(&server).await?;
        // Sound without a header, in pieces that SRT takes.
        let said = ffmpeg(&["-vn", "-c:a", "pcm_s16le", "-f", "s16le", &format!("{}&pkt_size=1316", stage.url)])?;
        let said = said.end(SOON).await?;
        assert!(said.code.is_some_and(|code| code != 0), "{said:?}");
        let log = std::fs::read_to_string(&server.log)?;
        assert!(log.contains("no picture or sound that can be read"), "{}", server.log_tail());
        Ok(())
    })
}

#[test]
fn a_port_that_is_taken_is_named() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let taken = UdpSocket::bind("127.0.0.1:0")?;
        let address = taken.local_addr()?.to_string();
        let started = Server::start_with(folder.path(), &[("CREST_SRT__LISTEN", &address)]).await;
        let error = started.err().context("it started")?;
        assert!(format!("{error:#}").contains(&format!("srt.listen: cannot listen on {address}")), "{error:#}");
        Ok(())
    })
}
