//! Publishers that speak WebRTC: a real Chromium with a fake camera, and requests as clients get them wrong.

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::doctor::Patient;
use crate::harness::{crest_command, own_file, probe, run, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::{Answer, Api, Server};
use crate::verifiers::node_modules;

/// A browser takes its time to start on a busy machine.
const BROWSER: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

/// A stream that is published over WHIP.
struct Stage<'a> {
    server: &'a Server,
    api: Api,
    stream: String,
    endpoint: String,
    key: String,
}

impl<'a> Stage<'a> {
    async fn set() -> Result<Self> {
        let server = Server::shared().await?;
        let api = server.tenant().await?;
        Self::of(server, api).await
    }

    async fn of(server: &'a Server, api: Api) -> Result<Self> {
        let made = api.post("/v1/streams", json!({ "name": "a browser", "source": { "kind": "whip" } })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
        let ingest = &made["ingest"];
        ensure!(ingest["rtmp_url"].is_null(), "{made}");
        Ok(Self {
            server,
            api,
            stream: text(&made["id"])?,
            endpoint: text(&ingest["whip_url"])?,
            key: text(&ingest["stream_key"])?,
        })
    }

    /// The segment files of this stream.
    fn segments(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.server.data.join("media")];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => found.push(path),
                }
            }
        }
        found.retain(|path| path.components().any(|part| part.as_os_str() == self.stream.as_str()));
        found.retain(|path| path.extension().is_some_and(|extension| extension == "mp4"));
        found
    }
}

/// Chromium, publishing.
struct Browser {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    /// Publishes pictures of `codec` alone, or what the browser prefers.
    async fn publish(stage: &Stage<'_>, codec: Option<&str>) -> Result<Self> {
        let mut child = Command::new("node")
            .arg(own_file("verify/whip.mjs"))
            .arg(node_modules()?)
            .args([&stage.endpoint, &stage.key, "audio,video"])
            .args(codec)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node cannot be started; `make setup` installs what the tests need")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut browser = Self { child, said: BufReader::new(stdout).lines() };
        match tokio::time::timeout(BROWSER, browser.said.next_line()).await {
            Ok(Ok(Some(line))) if line == "connected" => Ok(browser),
            said => {
                let _ = browser.child.start_kill();
                let output = browser.child.wait_with_output().await?;
                bail!("the browser does not publish: {said:?} {}", String::from_utf8_lossy(&output.stderr))
            }
        }
    }

    /// Ends the session as a client should; what the server answered.
    async fn end(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let status = tokio::time::timeout(SOON, self.said.next_line()).await??.context("it did not end the session")?;
        tokio::time::timeout(SOON, self.child.wait()).await??;
        Ok(status)
    }
}

/// A browser publishes, and the pictures that are stored are of `stored`, decode, and have sound beside them.
async fn shown(codec: Option<&str>, stored: &str) -> Result<()> {
    let stage = Stage::set().await?;
    let receiver = Receiver::register(&stage.api).await?;
    let browser = Browser::publish(&stage, codec).await?;
    receiver.wait_for("stream.started", 1, SOON).await?;
    // Several fragments: keyframes come because they are asked for.
    let keyframes = || async {
        let mut count = 0;
        for segment in stage.segments() {
            let flags = probe(&segment, "v:0", "packet=flags").await.unwrap_or_default();
            count += flags.lines().filter(|line| line.starts_with('K')).count();
        }
        Ok((count >= 4).then_some(()))
    };
    wait_for("keyframes of the browser", BROWSER, keyframes).await?;
    ensure!(browser.end().await? == "200");
    receiver.wait_for("stream.interrupted", 1, SOON).await?;
    let segments = stage.segments();
    ensure!(!segments.is_empty(), "no segment");
    for segment in segments {
        ensure!(probe(&segment, "v:0", "stream=codec_name").await? == stored);
        ensure!(probe(&segment, "a:0", "stream=codec_name").await? == "opus");
        let (pictures, sounds) = (decoded(&segment, "v:0").await?, decoded(&segment, "a:0").await?);
        // Packets of Opus from a browser last 20 ms.
        ensure!(pictures > 0 && sounds >= 10, "{pictures} pictures, {sounds} packets of sound");
    }
    Ok(())
}

/// How many frames of a track decode; an error if what the decoder is given is damaged.
async fn decoded(file: &Path, track: &str) -> Result<u64> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-err_detect", "explode", "-count_frames", "-select_streams", track]);
    command.args(["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]).arg(file).kill_on_drop(true);
    let output = command.output().await?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaints.is_empty(), "{track} does not decode: {complaints}");
    let count = String::from_utf8(output.stdout)?;
    count.trim().trim_end_matches(',').parse().with_context(|| format!("{track}: {count}"))
}

#[test]
fn a_browser_publishes_and_what_it_shows_is_stored() -> Result<()> {
    run(shown(None, "h264"))
}

#[test]
fn a_browser_that_sends_vp8_is_stored_as_such() -> Result<()> {
    run(shown(Some("VP8"), "vp8"))
}

/// What a client offers that sends H.264 and Opus; nothing answers behind it.
fn offer(codec: &str) -> String {
    let transport = format!(
        "a=rtcp-mux\na=ice-ufrag:abcd\na=ice-pwd:a password of the one who offers\na=setup:actpass\na=sendonly\n\
         a=fingerprint:sha-256 {}\n",
        ["5A"; 32].join(":")
    );
    let lines = format!(
        "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE 0 1\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\nc=IN IP4 0.0.0.0\na=mid:0\na=rtpmap:111 opus/48000/2\n{transport}\
         m=video 9 UDP/TLS/RTP/SAVPF 96\nc=IN IP4 0.0.0.0\na=mid:1\na=rtpmap:96 {codec}/90000\n{transport}"
    );
    lines.replace(" password of the one who offers", "PasswordOfTheOneWhoOffers").replace('\n', "\r\n")
}

const SDP: [(&str, &str); 1] = [("content-type", "application/sdp")];

/// Requests with this stream key.
async fn sent(stage: &Stage<'_>, key: Option<&str>, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    stage.server.api(key).raw(Method::POST, &stage.endpoint, headers, body.into()).await
}

/// What the end of a session is answered with.
async fn ended(api: &Api, session: &str) -> Result<u16> {
    Ok(api.send(Method::DELETE, session, None).await?.status.as_u16())
}

#[test]
fn who_may_not_publish_is_told_why() -> Result<()> {
    run(async {
        let stage = Stage::set().await?;
        let rtmp = stage.api.post("/v1/streams", json!({ "name": "another", "source": { "kind": "rtmp" } })).await?;
        let rtmp = rtmp["ingest"]["stream_key"].as_str().context("no key")?;
        let (good, long) = (offer("VP8"), "v=0\r\n".repeat(20_000));
        let key = Some(stage.key.as_str());
        let text = [("content-type", "text/plain")];
        let cases = [
            (None, &SDP, good.as_str(), 401, "Bearer"),
            (None, &SDP, &long, 401, "Bearer"),
            (Some("sk_live_nobody"), &SDP, &good, 401, "unknown stream key"),
            (Some("sk_live_nobody"), &SDP, &long, 401, "unknown stream key"),
            (Some(rtmp), &SDP, &good, 409, "another protocol"),
            (key, &text, &good, 415, "application/sdp"),
            (key, &SDP, &long, 413, "longer"),
            (key, &SDP, "hello", 400, "SDP"),
            (key, &SDP, &offer("VP9"), 406, "H.264"),
        ];
        for (key, headers, body, status, reason) in cases {
            // One that was refused lets go of the stream in its own time.
            let settled = || async {
                let answer = sent(&stage, key, headers, body).await?;
                Ok((status == 409 || answer.status != 409).then_some(answer))
            };
            let answer = wait_for("the stream to be free", SOON, settled).await?;
            let problem = answer.json();
            ensure!(answer.status == status, "{status} {reason}: {} {problem}", answer.status);
            ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains(reason)), "{reason}: {problem}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(answer.header("access-control-allow-origin"), "*", "a page has to be able to read it");
            assert_eq!(status == 401, answer.header("www-authenticate") == "Bearer");
        }
        let asked = stage.server.api(None).send(Method::GET, &stage.endpoint, None).await?;
        assert_eq!((asked.status.as_u16(), asked.header("allow")), (405, "POST, OPTIONS"));
        let told = stage.server.api(None).send(Method::OPTIONS, &stage.endpoint, None).await?;
        assert_eq!((told.status.as_u16(), told.header("accept-post")), (204, "application/sdp"));
        assert!(told.header("access-control-allow-headers").contains("Authorization"));
        Ok(())
    })
}

#[test]
fn a_browser_keeps_to_the_limits() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let settings = [("CREST_LIMITS__MAX_WIDTH", "300"), ("CREST_LIMITS__TENANT_FEEDS", "1")];
        let server = Server::start_with(folder.path(), &settings).await?;
        let stage = Stage::of(&server, server.tenant().await?).await?;
        let explained = |words: &'static str, stream: String| {
            let path = format!("/v1/streams/{stream}");
            let api = &stage.api;
            async move {
                let look = || async {
                    let shown = api.get(&path).await?;
                    Ok(shown["state_reason"].as_str().is_some_and(|reason| reason.contains(words)).then_some(shown))
                };
                wait_for(words, SOON, look).await
            }
        };
        // What Chromium makes up is larger; its sound may have come first.
        let browser = Browser::publish(&stage, None).await?;
        let shown = explained("limits.max_width", stage.stream.clone()).await.with_context(|| server.log_tail())?;
        ensure!(shown["state"] != "live", "{shown}");
        for segment in stage.segments() {
            ensure!(probe(&segment, "v", "stream=codec_name").await?.is_empty(), "a picture was stored");
        }
        drop(browser);

        let made = stage.api.post("/v1/streams", json!({ "name": "one", "source": { "kind": "rtmp" } })).await?;
        let (id, key) =
            (made["id"].as_str().context("no id")?, made["ingest"]["stream_key"].as_str().context("no key")?);
        let small = ["-vf", "scale=160:96", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "copy"];
        let url = format!("{}/{key}", server.rtmp);
        let _first = Publisher::ffmpeg(crate::broadcast::file().await?, &small, &url)?;
        let live =
            || async { Ok((stage.api.get(&format!("/v1/streams/{id}")).await?["state"] == "live").then_some(())) };
        wait_for("the first feed", SOON, live).await.with_context(|| server.log_tail())?;
        let second = Stage::of(&server, stage.api.clone()).await?;
        let answer = sent(&second, Some(&second.key), &SDP, &offer("VP8")).await?;
        let problem = answer.json();
        ensure!(answer.status == 409, "{} {problem}", answer.status);
        ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains("limits.tenant_feeds")), "{problem}");
        explained("limits.tenant_feeds", second.stream.clone()).await?;
        Ok(())
    })
}

#[test]
fn a_session_belongs_to_its_publisher_and_ends_once() -> Result<()> {
    run(async {
        let stage = Stage::set().await?;
        let other = Stage::of(stage.server, stage.api.clone()).await?;
        let (key, none) = (Some(stage.key.as_str()), stage.server.api(None));
        let made = sent(&stage, key, &SDP, &offer("VP8")).await?;
        ensure!(made.status == 201, "{} {}", made.status, made.json());
        assert_eq!(made.header("content-type"), "application/sdp");
        let answer = String::from_utf8_lossy(&made.body).into_owned();
        assert!(answer.contains("a=recvonly") && answer.contains(" 127.0.0.1 "), "{answer}");
        let (session, etag) = (made.header("location").to_owned(), made.header("etag").to_owned());
        let again = sent(&stage, key, &SDP, &offer("VP8")).await?;
        assert_eq!(again.status, 409, "it is published already");

        let publisher = stage.server.api(key);
        let fragment = "a=ice-ufrag:abcd\r\na=ice-pwd:x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n";
        let trickle = "application/trickle-ice-sdpfrag";
        for (headers, body, status) in [
            (vec![("content-type", trickle), ("if-match", &etag)], fragment.to_owned(), 204),
            (vec![("content-type", trickle), ("if-match", &etag)], fragment.replace("abcd", "new"), 422),
            (vec![("content-type", trickle), ("if-match", "*")], fragment.replace("abcd", "new"), 422),
            (vec![("content-type", trickle), ("if-match", "\"other\"")], fragment.to_owned(), 412),
            (vec![("content-type", trickle)], fragment.to_owned(), 428),
            (vec![("content-type", "application/sdp"), ("if-match", &etag)], fragment.to_owned(), 415),
        ] {
            let answer = publisher.raw(Method::PATCH, &session, &headers, body.into()).await?;
            assert_eq!(answer.status.as_u16(), status, "{headers:?} {}", answer.json());
        }

        let stranger = stage.server.api(Some(&other.key));
        assert_eq!(ended(&none, &session).await?, 401);
        assert_eq!(ended(&stranger, &session).await?, 404, "another's session is none");
        assert_eq!(ended(&publisher, &session).await?, 200);
        assert_eq!(ended(&publisher, &session).await?, 404);

        // A client that cannot send a token has its key in the address, and needs none for the session.
        let address = format!("{}/{}", other.endpoint, other.key);
        let made = none.raw(Method::POST, &address, &SDP, offer("VP8").into()).await?;
        assert_eq!(made.status, 201);
        assert_eq!(ended(&none, made.header("location")).await?, 200);
        Ok(())
    })
}

#[test]
fn publishers_are_bounded_and_one_that_never_connects_is_let_go() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let settings = [("CREST_WEBRTC__MAX_SESSIONS", "1"), ("CREST_WEBRTC__IDLE", "1s")];
        let server = Server::start_with(folder.path(), &settings).await?;
        let mut publishers = Vec::new();
        for name in ["one", "two"] {
            let body = json!({ "name": name, "source": { "kind": "whip" } });
            let made = server.as_operator().post("/v1/streams", body).await?;
            publishers.push(server.api(made["ingest"]["stream_key"].as_str()));
        }
        let [one, two] = &publishers[..] else { bail!("not two") };
        assert_eq!(one.raw(Method::POST, "/whip", &SDP, offer("VP8").into()).await?.status, 201);
        let full = two.raw(Method::POST, "/whip", &SDP, offer("VP8").into()).await?;
        assert_eq!((full.status.as_u16(), full.header("retry-after")), (503, "2"));
        let free = || async {
            let answer = two.raw(Method::POST, "/whip", &SDP, offer("VP8").into()).await?;
            Ok((answer.status == 201).then_some(()))
        };
        wait_for("a place", SOON, free).await
    })
}

#[test]
fn a_port_that_is_taken_is_named_at_start() -> Result<()> {
    run(async {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let folder = tempfile::tempdir()?;
        let mut command = crest_command();
        command.arg("serve").env("CREST_DATA_DIR", folder.path()).env("CREST_HTTP__LISTEN", "127.0.0.1:0");
        command.env("CREST_RTMP__LISTEN", "127.0.0.1:0").env("CREST_WEBRTC__LISTEN", taken.local_addr()?.to_string());
        let output = tokio::time::timeout(SOON, command.kill_on_drop(true).output()).await??;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("webrtc.listen") && said.contains("choose another"), "{said}");
        let patient = Patient::new()?.with("CREST_WEBRTC__LISTEN", taken.local_addr()?.to_string());
        patient.ask().await?.wrong("webrtc-port", "is taken", "export CREST_WEBRTC__LISTEN=127.0.0.1:")
    })
}
