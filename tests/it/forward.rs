//! Feeds that are relayed: bit for bit to another crest and to ffmpeg, over RTMP and RTMPS, past servers that are not
//! there or take nothing.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::broadcast;
use crate::garbage::client::{Client, tags_of};
use crate::harness::{decodes_silently, run, signal, succeed, wait_for};
use crate::publisher::Publisher;
use crate::server::{Api, Server};
use crate::services::free_port;
use crate::stored::segments;

const SOON: Duration = Duration::from_secs(30);
/// Longer than what is published.
const WHOLE: Duration = Duration::from_secs(60);
/// Servers are on this machine, and what accepts nothing is given up soon.
const SETTINGS: [(&str, &str); 2] = [("CREST_PULL__ALLOW_PRIVATE", "true"), ("CREST_FORWARD__TIMEOUT", "3s")];

/// The packets of a track, `v` or `a`, as hashes of their bytes.
async fn packets(file: &Path, track: &str) -> Result<Vec<String>> {
    let (file, map) = (file.display().to_string(), format!("0:{track}"));
    let args = ["-v", "error", "-i", &file, "-map", &map, "-c", "copy", "-f", "framehash", "-hash", "md5", "-"];
    let said = succeed("ffmpeg", args).await?.text();
    let lines = said.lines().filter(|line| !line.starts_with('#'));
    // Track, decoding time, presentation time, duration, size, hash; what follows is about side data.
    Ok(lines.filter_map(|line| line.split(',').nth(5)).map(|hash| hash.trim().to_owned()).collect())
}

/// The beginning of the broadcast, as FLV.
async fn beginning(folder: &Path) -> Result<PathBuf> {
    let (whole, flv) = (broadcast::file().await?.display().to_string(), folder.join("source.flv"));
    let out = flv.display().to_string();
    succeed("ffmpeg", ["-nostdin", "-v", "error", "-i", &whole, "-t", "15", "-c", "copy", &out]).await?;
    Ok(flv)
}

/// ffmpeg as the server that a feed is relayed to: takes one publisher and writes down what it sends.
struct Listener {
    child: Child,
    pid: u32,
    file: PathBuf,
}

impl Listener {
    fn start(port: u16, file: PathBuf) -> Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y", "-listen", "1", "-i"]);
        command.arg(format!("rtmp://127.0.0.1:{port}/app/a_key")).args(["-c", "copy"]).arg(&file);
        let child = command.kill_on_drop(true).spawn().context("ffmpeg cannot be started")?;
        let pid = child.id().context("ffmpeg has ended already")?;
        Ok(Self { child, pid, file })
    }

    /// Waits until it has written everything.
    async fn end(mut self) -> Result<PathBuf> {
        tokio::time::timeout(SOON, self.child.wait()).await.context("ffmpeg goes on listening")??;
        Ok(self.file)
    }
}

/// A crest, and how to look at its streams.
struct Stage {
    server: Server,
    api: Api,
}

/// A stream and how to publish to it.
struct Stream {
    id: String,
    url: String,
    key: String,
}

impl Stage {
    async fn set(folder: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let settings: Vec<_> = SETTINGS.iter().chain(settings).copied().collect();
        let server = Server::start_with(folder, &settings).await?;
        let api = server.as_operator();
        Ok(Self { server, api })
    }

    async fn stream(&self, forward: Value) -> Result<Stream> {
        let new = json!({ "name": "a feed", "source": { "kind": "rtmp" }, "forward": forward });
        let made = self.api.post("/v1/streams", new).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
        let (id, key) = (text(&made["id"])?, text(&made["ingest"]["stream_key"])?);
        Ok(Stream { id, url: format!("{}/{key}", self.server.rtmp), key })
    }

    async fn shown(&self, stream: &Stream) -> Result<Value> {
        self.api.get(&format!("/v1/streams/{}", stream.id)).await
    }

    /// Waits until the targets of a stream are in these states.
    async fn forwards(&self, stream: &Stream, states: &[&str]) -> Result<Value> {
        let reached = || async {
            let shown = self.shown(stream).await?["forward"].clone();
            let now: Vec<_> = shown.as_array().into_iter().flatten().map(|target| target["state"].clone()).collect();
            Ok((now == states).then_some(shown))
        };
        wait_for(&format!("targets to be {states:?}"), SOON, reached).await.with_context(|| self.server.log_tail())
    }

    async fn state(&self, stream: &Stream, state: &str) -> Result<()> {
        let reached = || async { Ok((self.shown(stream).await?["state"] == state).then_some(())) };
        wait_for(&format!("the stream to be {state}"), SOON, reached).await.with_context(|| self.server.log_tail())
    }

    /// The packets of a track that are stored of a stream.
    async fn stored(&self, stream: &Stream, track: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for segment in segments(&self.server.data, &stream.id) {
            all.extend(packets(&segment, track).await?);
        }
        Ok(all)
    }
}

#[test]
fn a_feed_arrives_elsewhere_bit_for_bit_past_servers_that_take_nothing() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let stage = Stage::set(folder.path(), &[]).await?;
        let other = stage.stream(Value::Null).await?;
        // One accepts and never reads, and nobody is at the other.
        let (deaf, dead, port) = (TcpListener::bind("127.0.0.1:0").await?, free_port()?, free_port()?);
        let listener = Listener::start(port, folder.path().join("relayed.flv"))?;
        let stream = stage
            .stream(json!([
                { "url": stage.server.rtmp, "stream_key": other.key },
                { "url": format!("rtmp://127.0.0.1:{port}/app"), "stream_key": "a_key" },
                { "url": format!("rtmp://{}/app/its_key", deaf.local_addr()?) },
                { "url": format!("rtmp://127.0.0.1:{dead}/app"), "stream_key": "a_key" },
            ]))
            .await?;
        let source = beginning(folder.path()).await?;
        let publisher = Publisher::ffmpeg(&source, &[], &stream.url)?;
        let shown = stage.forwards(&stream, &["live", "live", "waiting", "waiting"]).await?;
        stage.state(&other, "live").await?;
        ensure!(shown[2]["reason"].as_str().is_some_and(|reason| reason.contains("did not accept")), "{shown}");
        ensure!(shown[3]["reason"].as_str().is_some_and(|reason| reason.contains("cannot be reached")), "{shown}");
        ensure!(shown[3]["url"] == format!("rtmp://127.0.0.1:{dead}/app/…"), "{shown}");
        assert_eq!(stage.api.counter("crest_forward_targets").await?, 2.0);
        let said = publisher.end(WHOLE).await?;
        ensure!(said.code == Some(0), "{said:?}");
        stage.state(&other, "interrupted").await?;
        stage.state(&stream, "interrupted").await?;
        stage.forwards(&stream, &["idle"; 4]).await?;

        let relayed = listener.end().await?;
        for track in ["v", "a"] {
            let (sent, came) = (packets(&source, track).await?, packets(&relayed, track).await?);
            ensure!(!sent.is_empty() && sent == came, "{track}: {} of {} packets came", came.len(), sent.len());
            // What crest stored of the relayed feed is what it stored of the feed itself.
            let (first, second) = (stage.stored(&stream, track).await?, stage.stored(&other, track).await?);
            ensure!(!first.is_empty() && first == second, "{track}: {} and {} packets", first.len(), second.len());
        }
        assert_eq!(stage.api.counter("crest_samples_dropped_total").await?, 0.0);
        let log = std::fs::read_to_string(&stage.server.log)?;
        for key in [&other.key, "a_key", "its_key"] {
            ensure!(!shown.to_string().contains(key) && !log.contains(key), "a key is shown or logged: {shown}");
        }
        Ok(())
    })
}

#[test]
fn a_server_that_dies_and_comes_back_gets_the_feed_again_from_a_keyframe() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let stage = Stage::set(folder.path(), &[]).await?;
        let port = free_port()?;
        let target = json!({ "url": format!("rtmp://127.0.0.1:{port}/app"), "stream_key": "a_key" });
        let stream = stage.stream(target).await?;
        let first = Listener::start(port, folder.path().join("first.flv"))?;
        let source = broadcast::file().await?;
        let publisher = Publisher::looped(source, &stream.url)?;
        stage.forwards(&stream, &["live"]).await?;
        signal("KILL", first.pid).await?;
        stage.forwards(&stream, &["waiting"]).await?;
        stage.state(&stream, "live").await?;

        let second = Listener::start(port, folder.path().join("second.flv"))?;
        stage.forwards(&stream, &["live"]).await?;
        let some = || async { Ok((std::fs::metadata(&second.file)?.len() > 200_000).then_some(())) };
        wait_for("some seconds of the feed", SOON, some).await?;
        stage.state(&stream, "live").await?;
        publisher.kill().await?;
        let relayed = second.end().await?;
        decodes_silently(&relayed).await?;
        let (sent, came) = (packets(source, "v").await?, packets(&relayed, "v").await?);
        let twice: Vec<_> = sent.iter().chain(&sent).cloned().collect();
        ensure!(!came.is_empty(), "nothing came");
        ensure!(twice.windows(came.len()).any(|part| part == came), "{} packets that were not sent so", came.len());
        assert_eq!(stage.api.counter("crest_samples_dropped_total").await?, 0.0);
        Ok(())
    })
}

#[test]
fn an_encoder_that_reconnects_all_the_time_does_not_have_a_server_asked_as_often() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let stage =
            Stage::set(folder.path(), &[("CREST_FORWARD__PAUSE", "1h"), ("CREST_FORWARD__MAX_PAUSE", "1h")]).await?;
        // It takes connections and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = json!({ "url": format!("rtmp://{}/app", listener.local_addr()?), "stream_key": "a_key" });
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let server = tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.push(connection);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let stream = stage.stream(target).await?;
        let tags = tags_of(&beginning(folder.path()).await?, 2).await?;
        for round in 0..4 {
            let mut encoder = Client::publish(&stage.server.rtmp, &stream.key).await?;
            encoder.tags(&tags).await?;
            stage.state(&stream, "live").await?;
            if round == 0 {
                let once = || async { Ok((asked.load(Ordering::Relaxed) > 0).then_some(())) };
                wait_for("the server to be asked", SOON, once).await?;
            } else {
                let shown = stage.forwards(&stream, &["waiting"]).await?;
                let reason = shown[0]["reason"].as_str().unwrap_or_default();
                ensure!(reason.contains("a moment ago") || reason.contains("did not accept"), "{shown}");
            }
            drop(encoder);
            stage.state(&stream, "interrupted").await?;
            stage.forwards(&stream, &["idle"]).await?;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        server.abort();
        Ok(())
    })
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
async fn certificate(folder: &Path) -> Result<(String, String)> {
    let path = |name: &str| folder.join(name).display().to_string();
    let (config, certificate, key) = (path("openssl.cnf"), path("server.crt"), path("server.key"));
    let text = "[req]\ndistinguished_name=name\nx509_extensions=own\nprompt=no\n[name]\nCN=127.0.0.1\n\
                [own]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1\n";
    std::fs::write(&config, text)?;
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"];
    succeed("openssl", new.iter().copied().chain(["-config", &config, "-out", &certificate, "-keyout", &key])).await?;
    Ok((certificate, key))
}

#[test]
fn a_server_over_tls_gets_the_feed_as_soon_as_it_is_there_and_after_a_restart() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let (certificate, key) = certificate(folder.path()).await?;
        let (there, here) = (folder.path().join("there"), folder.path().join("here"));
        let listen = format!("127.0.0.1:{}", free_port()?);
        let secure = [
            ("CREST_RTMP__TLS_LISTEN", listen.as_str()),
            ("CREST_RTMP__TLS_CERTIFICATE", certificate.as_str()),
            ("CREST_RTMP__TLS_KEY", key.as_str()),
        ];
        // Its stream is made, and it goes.
        let target = Stage::set(&there, &secure).await?;
        let taken = target.stream(Value::Null).await?;
        target.server.terminate(SOON).await?;

        let trusts = [("SSL_CERT_FILE", certificate.as_str())];
        let stage = Stage::set(&here, &trusts).await?;
        let stream = stage.stream(json!({ "url": format!("rtmps://{listen}/live/{}", taken.key) })).await?;
        let publisher = Publisher::looped(broadcast::file().await?, &stream.url)?;
        stage.forwards(&stream, &["waiting"]).await?;
        stage.state(&stream, "live").await?;
        let target = Stage::set(&there, &secure).await?;
        stage.forwards(&stream, &["live"]).await?;
        target.state(&taken, "live").await?;

        // Whom it relays to is not forgotten.
        stage.server.terminate(SOON).await?;
        publisher.kill().await?;
        let stage = Stage::set(&here, &trusts).await?;
        stage.forwards(&stream, &["idle"]).await?;
        let url = format!("{}/{}", stage.server.rtmp, stream.key);
        let _publisher = Publisher::looped(broadcast::file().await?, &url)?;
        stage.forwards(&stream, &["live"]).await?;
        target.state(&taken, "live").await
    })
}
