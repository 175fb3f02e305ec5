//! A disk that fills up: media gives way first and says so, decisions last, and all goes on by itself
//! once there is room. Each server has a small file system of its own.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

use crate::broadcast;
use crate::harness::{decodes_silently, run, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::{Answer, Api, Server};
use crate::small_disk::{SmallDisk, may_mount};

const MB: u64 = 1_000_000;
/// Of it 19 MB are the reserve and 3.8 MB the ballast.
const DISK: u64 = 192 * MB;
const SOON: Duration = Duration::from_secs(30);
/// Until what the next moments of the broadcast make arrives.
const MOMENT: Duration = Duration::from_secs(180);

/// A running server on its small disk, with a feed that goes on for some minutes.
struct Stage {
    disk: SmallDisk,
    server: Server,
    api: Api,
    receiver: Receiver,
    chat: String,
    _publisher: Publisher,
}

/// Publishes the broadcast over and over.
async fn publish(url: &str) -> Result<Publisher> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "4", "-i"]).arg(broadcast::file().await?);
    command.args(["-c", "copy", "-f", "flv", url]);
    Publisher::start(command)
}

async fn create(api: &Api, server: &Server) -> Result<(String, String)> {
    let made = api.post("/v1/streams", json!({ "name": "a feed", "source": { "kind": "rtmp" } })).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
    Ok((text(&made["id"])?, format!("{}/{}", server.rtmp, text(&made["ingest"]["stream_key"])?)))
}

impl Stage {
    async fn set() -> Result<Self> {
        let disk = SmallDisk::mount(DISK)?;
        // What is not stored is not waited for long.
        let server = Server::start_with(disk.folder(), &[("CREST_CLIPS__MAX_WAIT", "3s")]).await?;
        let api = server.as_operator();
        let receiver = Receiver::register(&api).await?;
        let (stream, url) = create(&api, &server).await?;
        let publisher = publish(&url).await?;
        receiver.wait_for("stream.started", 1, SOON).await?;
        let chat = format!("/v1/streams/{stream}/chat");
        let stage = Self { disk, server, api, receiver, chat, _publisher: publisher };
        stage.stores_more_than(0).await?;
        Ok(stage)
    }

    fn stored(&self) -> u64 {
        bytes_below(&self.disk.data().join("media"))
    }

    async fn stores_more_than(&self, before: u64) -> Result<()> {
        let grows = || async { Ok((self.stored() > before).then_some(())) };
        wait_for("media to be stored", SOON, grows).await.with_context(|| self.server.log_tail())
    }

    /// Waits until `/readyz` and the metrics say so.
    async fn room(&self, room: &str) -> Result<()> {
        let said = || async {
            let short = self.metric("crest_storage_short").await?;
            let as_told = (room != "ample") == (short == 1.0);
            Ok((self.api.get("/readyz").await?["storage"] == room && as_told).then_some(()))
        };
        wait_for(&format!("the room to be {room}"), SOON, said).await.with_context(|| self.server.log_tail())
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.api.send(Method::GET, "/metrics", None).await?.body;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.and_then(|value| value.parse().ok()).unwrap_or(0.0))
    }

    /// Waits until so many more fragments were not stored for want of room.
    async fn loses(&self, count: f64) -> Result<()> {
        const LOST: &str = r#"crest_fragments_lost_total{cause="disk_reserve"}"#;
        let before = self.metric(LOST).await?;
        let lost = || async { Ok((self.metric(LOST).await? >= before + count).then_some(())) };
        wait_for("media not to be stored", MOMENT, lost).await.with_context(|| self.server.log_tail())
    }

    async fn say(&self, text: &str) -> Result<Answer> {
        let message = json!({ "t": 1.0, "user": "ana", "text": text });
        self.api.send(Method::POST, &self.chat, Some(json!({ "messages": vec![message; 500] }))).await
    }

    /// Times that the log says something.
    fn said(&self, words: &str) -> usize {
        let log = std::fs::read_to_string(self.disk.folder().join("serve.log")).unwrap_or_default();
        log.matches(words).count()
    }

    /// A clip of something that happened after there was room again.
    async fn makes_clips(&self) -> Result<()> {
        let made = self.receiver.received().iter().filter(|r| r.kind() == "highlight.ready").count();
        let ready = self.receiver.wait_for("highlight.ready", made + 1, MOMENT).await;
        let ready = ready.with_context(|| self.server.log_tail())?.data();
        let url = ready["clip_url"].as_str().with_context(|| format!("no clip: {ready}"))?;
        let clip = self.api.send(Method::GET, url, None).await?;
        ensure!(clip.status == StatusCode::OK, "{url}: {}", clip.status);
        let file = self.disk.folder().join("clip.mp4");
        std::fs::write(&file, &clip.body)?;
        decodes_silently(&file).await
    }

    /// Nothing is missing among the events: their numbers have no gap.
    async fn tells_all(&self) -> Result<()> {
        let whole = || async {
            let mut all: Vec<_> =
                self.receiver.received().iter().filter_map(|r| r.data()["sequence"].as_u64()).collect();
            all.sort_unstable();
            Ok((all == (1..=all.len() as u64).collect::<Vec<_>>()).then_some(()))
        };
        wait_for("events without a gap", SOON, whole).await
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.path() {
        path if path.is_dir() => bytes_below(&path),
        path if path.extension().is_some_and(|e| e == "mp4") => entry.metadata().map_or(0, |file| file.len()),
        _ => 0,
    });
    bytes.sum()
}

#[test]
fn in_the_reserve_media_is_not_stored_and_decisions_go_on() -> Result<()> {
    if !may_mount("disk::in_the_reserve_media_is_not_stored_and_decisions_go_on")? {
        return Ok(());
    }
    run(async {
        let stage = Stage::set().await?;
        let (_, waiting) = create(&stage.api, &stage.server).await?;
        stage.disk.fill("filler", 12 * MB)?;
        stage.room("short").await?;
        stage.loses(1.0).await?;
        let before = stage.stored();
        assert_eq!(stage.said("the disk is nearly full: media is not stored"), 1);

        let new = json!({ "name": "one more", "source": { "kind": "rtmp" } });
        let refused = stage.api.send(Method::POST, "/v1/streams", Some(new)).await?;
        assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (507, &json!("storage_full")));
        assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{:?}", refused.headers);
        let refused = publish(&waiting).await?.end(SOON).await?;
        assert!(refused.code.is_some_and(|code| code != 0) && refused.err.contains("disk is full"), "{refused:?}");
        assert_eq!(stage.say("wow").await?.status, StatusCode::ACCEPTED);

        stage.receiver.wait_for("highlight.detected", 1, MOMENT).await?;
        let failed = stage.receiver.wait_for("highlight.failed", 1, MOMENT).await?.data();
        assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("disk was full")), "{failed}");
        assert_eq!(stage.stored(), before, "media was stored out of the reserve");

        stage.disk.clear("filler")?;
        stage.room("ample").await?;
        stage.stores_more_than(before).await?;
        create(&stage.api, &stage.server).await?;
        let late = publish(&waiting).await?;
        stage.receiver.wait_for("stream.started", 2, SOON).await?;
        late.kill().await?;
        stage.makes_clips().await?;
        assert_eq!(stage.said("there is room again"), 1);
        stage.tells_all().await
    })
}

#[test]
fn filled_to_the_last_byte_it_keeps_what_it_has_and_goes_on_by_itself() -> Result<()> {
    if !may_mount("disk::filled_to_the_last_byte_it_keeps_what_it_has_and_goes_on_by_itself")? {
        return Ok(());
    }
    run(async {
        let stage = Stage::set().await?;
        let ballast = stage.disk.data().join("ballast");
        assert!(std::fs::metadata(&ballast)?.len() > 3 * MB);
        stage.disk.fill("filler", 0)?;
        let given_up = || async { Ok((!ballast.exists()).then_some(())) };
        wait_for("the ballast to be given up", SOON, given_up).await?;
        stage.room("exhausted").await?;
        // With the room that it made, what counts is still taken.
        let taken = || async { Ok((stage.say("wow").await?.status == StatusCode::ACCEPTED).then_some(())) };
        wait_for("chat to be taken", SOON, taken).await.with_context(|| stage.server.log_tail())?;

        // Now that is taken away too, and nothing can be written any more.
        let refused = || async {
            stage.disk.fill("filler", 0)?;
            Ok((stage.say("full").await?.status == StatusCode::SERVICE_UNAVAILABLE).then_some(()))
        };
        wait_for("chat to be refused", SOON, refused).await.with_context(|| stage.server.log_tail())?;
        // Long enough for a moment of the broadcast to pass: a fragment has two seconds.
        stage.loses(20.0).await?;
        assert_eq!(stage.api.send(Method::GET, "/healthz", None).await?.status, StatusCode::OK);

        stage.disk.clear("filler")?;
        stage.room("ample").await?;
        wait_for("chat to be taken again", SOON, taken).await.with_context(|| stage.server.log_tail())?;
        let made_again = || async { Ok(ballast.exists().then_some(())) };
        wait_for("the ballast to be made again", SOON, made_again).await?;
        stage.receiver.wait_for("highlight.detected", 1, SOON).await.with_context(|| stage.server.log_tail())?;
        stage.makes_clips().await?;
        stage.tells_all().await
    })
}
