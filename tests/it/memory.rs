//! What a stream took is given back when it is over. Bytes are the benchmark's affair
//! (`benches/soak/`); what can be counted is counted here.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::broadcast;
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::{Api, Server};

const SOON: Duration = Duration::from_secs(60);
/// Longer than a delivering connection is kept for the next event, and an idle thread for the next work.
const AT_REST: Duration = Duration::from_secs(120);

struct Fed {
    api: Api,
    receiver: Receiver,
    id: String,
    publisher: Publisher,
}

impl Fed {
    /// A stream that is live, with an audience and a mark.
    async fn start(server: &Server) -> Result<Self> {
        let api = server.tenant().await?;
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "passing", "source": { "kind": "rtmp" } })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
        let (id, key) = (text(&made["id"])?, text(&made["ingest"]["stream_key"])?);
        let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &format!("{}/{key}", server.rtmp))?;
        receiver.wait_for("stream.started", 1, SOON).await?;
        let messages = json!({ "messages": [{ "t": 0.5, "user": "ana", "text": "wow" }] });
        api.post(&format!("/v1/streams/{id}/chat"), messages).await?;
        api.post(&format!("/v1/streams/{id}/markers"), json!({ "t": 1.0 })).await?;
        Ok(Self { api, receiver, id, publisher })
    }

    /// Ends it once its highlight was seen, and waits for everything that follows.
    async fn end(self) -> Result<()> {
        self.receiver.wait_for("highlight.detected", 1, SOON).await?;
        self.publisher.kill().await?;
        self.api.post(&format!("/v1/streams/{}/stop", self.id), json!({})).await?;
        self.receiver.wait_for("stream.ended", 1, SOON).await?;
        self.receiver.wait_for("highlight.ready", 1, SOON).await.map(drop)
    }
}

/// Streams of the test.
const STREAMS: usize = 12;

/// They come and go, a few at a time.
async fn pass(server: &Server) -> Result<()> {
    for _ in 0..STREAMS / 4 {
        let (a, b, c, d) =
            tokio::try_join!(Fed::start(server), Fed::start(server), Fed::start(server), Fed::start(server))?;
        tokio::try_join!(a.end(), b.end(), c.end(), d.end())?;
    }
    Ok(())
}

/// What may be more after the streams than before the first, always less than one for each: the one
/// decoder that is kept for the next stream talks to itself, and what blocks gets threads that stay
/// for a while.
fn allowed(name: &str) -> usize {
    match name {
        "socket" => 8,
        "thread tokio-rt-worker" => 3,
        _ => 0,
    }
}

/// Open descriptors by what they are, and threads by name. Left out is what grows to a bound once:
/// connections of the database with their threads, tables of the bus.
fn held(server: &Server) -> Result<BTreeMap<String, usize>> {
    let process = Path::new("/proc").join(server.pid().to_string());
    let mut held = BTreeMap::new();
    for entry in std::fs::read_dir(process.join("fd"))?.flatten() {
        // One that is closed meanwhile is none.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let name = match target.strip_prefix(&server.data) {
            Ok(own) if own.starts_with("bus") || own.to_string_lossy().starts_with("crest.db") => continue,
            Ok(own) => own.iter().next().unwrap_or_default().to_string_lossy().into_owned(),
            // `socket:[4711]`
            Err(_) => target.to_string_lossy().split(":[").next().unwrap_or_default().to_owned(),
        };
        *held.entry(name).or_default() += 1;
    }
    for entry in std::fs::read_dir(process.join("task"))?.flatten() {
        let Ok(name) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
        if !name.starts_with("sqlx") {
            *held.entry(format!("thread {}", name.trim())).or_default() += 1;
        }
    }
    Ok(held)
}

#[test]
fn descriptors_and_threads_are_given_back_when_streams_have_come_and_gone() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &[("CREST_DECODER__WORKERS", "1")]).await?;
        let before = held(&server)?;
        pass(&server).await?;
        let given_back = || async {
            let mut more = held(&server)?;
            more.retain(|name, count| *count > before.get(name).copied().unwrap_or(0) + allowed(name));
            ensure!(more.is_empty(), "there is {more:?}, and before there was {before:?}");
            Ok(Some(()))
        };
        wait_for("what 12 streams took to be given back", AT_REST, given_back).await
    })
}

/// Whether `/metrics` has this somewhere.
async fn shows(server: &Server, what: &str) -> Result<bool> {
    let text = server.as_operator().send(reqwest::Method::GET, "/metrics", None).await?.body;
    Ok(String::from_utf8_lossy(&text).contains(what))
}

#[test]
fn a_stream_that_is_over_is_not_in_the_metrics() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        // No room for a second packet: packets are dropped, and that is counted by stream.
        let settings = [("CREST_INGEST__SAMPLER_QUEUE", "1"), ("CREST_METRICS__KEEP_STREAMS", "1s")];
        let server = Server::start_with(folder.path(), &settings).await?;
        let (fed, other) = tokio::try_join!(Fed::start(&server), Fed::start(&server))?;
        for id in [&fed.id, &other.id] {
            let counted = || async { Ok(shows(&server, id).await?.then_some(())) };
            wait_for("drops to be counted by stream", SOON, counted).await?;
        }
        let (over, live) = (fed.id.clone(), other.id.clone());
        fed.end().await?;
        let gone = || async { Ok((!shows(&server, &over).await?).then_some(())) };
        wait_for("the series of a stream that is over to go", SOON, gone).await?;
        ensure!(shows(&server, &live).await?, "the series of the stream that is live must stay");
        ensure!(shows(&server, "crest_decisions_total").await?, "the counters of the program must stay");
        let allocated = server.as_operator().counter("crest_memory_allocated_bytes").await?;
        ensure!(allocated > 1e6 && shows(&server, "crest_memory_unused_bytes").await?, "{allocated} bytes");
        other.end().await?;
        let none = || async { Ok((!shows(&server, "str_").await?).then_some(())) };
        wait_for("every series that names a stream to go", SOON, none).await
    })
}
