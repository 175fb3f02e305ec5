//! Feeds, where several processes take them: one goes over to another, one is left behind.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

use crate::broadcast;
use crate::cluster::Cluster;
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::Api;
use crate::services::{Home, Proxy, free_address};

/// Until others notice that a process is gone, on a machine that does a lot else.
const LIMIT: Duration = Duration::from_secs(120);
const PROCESSES: [&str; 3] = ["api,deliver", "ingest", "ingest-2"];

/// Two that take feeds, and where the second one does.
async fn two() -> Result<(Home, Cluster, String)> {
    let home = Home::new()?;
    let mut settings = home.settings();
    settings.push(("CREST_INGEST__RECONNECT".to_owned(), "2s".to_owned()));
    let mut cluster = Cluster::new(&PROCESSES, &settings)?;
    let second = free_address()?;
    cluster.set("ingest-2", "CREST_RTMP__LISTEN", &second)?;
    cluster.start_all().await?;
    Ok((home, cluster, format!("rtmp://{second}/live")))
}

/// A stream as its owner knows it.
struct Stream {
    api: Api,
    id: String,
    key: String,
}

impl Stream {
    async fn create(api: &Api, name: &str) -> Result<Self> {
        let made = api.post("/v1/streams", json!({ "name": name, "source": { "kind": "rtmp" } })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("not a text");
        Ok(Self { api: api.clone(), id: text(&made["id"])?, key: text(&made["ingest"]["stream_key"])? })
    }

    async fn feed(&self, rtmp: &str) -> Result<Publisher> {
        Publisher::looped(broadcast::file().await?, &format!("{rtmp}/{}", self.key))
    }

    async fn shown(&self) -> Result<Value> {
        self.api.get(&format!("/v1/streams/{}", self.id)).await
    }

    async fn becomes(&self, state: &str, session: u32, cluster: &Cluster) -> Result<Value> {
        let there = || async {
            let shown = self.shown().await?;
            Ok((shown["state"] == state && shown["session"] == session).then_some(shown))
        };
        let what = format!("{} to be {state} in session {session}", self.id);
        wait_for(&what, LIMIT, there).await.with_context(|| cluster.log())
    }
}

#[test]
fn a_publisher_that_goes_to_another_process_is_followed_there_by_its_stream() -> Result<()> {
    run(async {
        let (_home, cluster, second) = two().await?;
        let receiver = Receiver::register(&cluster.api()).await?;
        let stream = Stream::create(&cluster.api(), "moving").await?;
        let before = stream.feed(&cluster.rtmp()).await?;
        stream.becomes("live", 1, &cluster).await?;
        // The first one has not noticed that its publisher went away; here it even goes on.
        let after = stream.feed(&second).await?;
        stream.becomes("live", 2, &cluster).await?;
        ensure!(before.end(LIMIT).await?.code != Some(0), "two processes feed one stream");
        receiver.wait_for("stream.resumed", 1, LIMIT).await.with_context(|| cluster.log())?;
        assert_eq!(receiver.kinds(), ["stream.started", "stream.interrupted", "stream.resumed"]);

        // Two publishers do not take it from each other for ever.
        let refused = stream.feed(&cluster.rtmp()).await?.end(LIMIT).await?;
        ensure!(refused.err.contains("fed through another server"), "{}", refused.err);
        let shown = stream.becomes("live", 2, &cluster).await?;
        assert_eq!(shown["state_reason"], Value::Null);

        cluster.api().post(&format!("/v1/streams/{}/stop", stream.id), json!({})).await?;
        stream.becomes("ended", 2, &cluster).await?;
        ensure!(after.end(LIMIT).await?.code != Some(0), "the publisher is not disconnected");
        receiver.wait_for("stream.ended", 1, LIMIT).await.with_context(|| cluster.log())?;
        let told = receiver.kinds();
        assert_eq!(told.len(), 4, "each step is told once: {told:?}");
        cluster.terminate_all().await
    })
}

#[test]
fn what_a_process_leaves_that_is_gone_for_good_is_brought_to_its_end_by_others() -> Result<()> {
    run(async {
        let (_home, cluster, second) = two().await?;
        let api = cluster.api();
        let receiver = Receiver::register(&api).await?;
        let (left, moved) = (Stream::create(&api, "left").await?, Stream::create(&api, "moved").await?);
        let (stopped, unborn) = (Stream::create(&api, "stopped").await?, Stream::create(&api, "unborn").await?);
        let mut feeds = Vec::new();
        for stream in [&left, &moved, &stopped] {
            feeds.push(stream.feed(&cluster.rtmp()).await?);
            stream.becomes("live", 1, &cluster).await?;
        }
        cluster.kill("ingest").await?;
        // Its publisher finds the way to another before anybody has noticed.
        let feed = moved.feed(&second).await?;
        moved.becomes("live", 2, &cluster).await?;
        // Nobody can end it in order; that it is asked for is not forgotten.
        let stop = || async {
            let path = format!("/v1/streams/{}/stop", stopped.id);
            let answer = api.send(Method::POST, &path, Some(json!({}))).await?;
            match answer.status.as_u16() {
                200 => Ok(Some(answer.json())),
                503 => Ok(None),
                other => anyhow::bail!("{other}: {}", answer.json()),
            }
        };
        let shown = wait_for("the stream to be stopped", LIMIT, stop).await.with_context(|| cluster.log())?;
        assert_eq!((&shown["state"], &shown["state_reason"]), (&json!("ended"), &json!("stopped")));

        let shown = left.becomes("ended", 1, &cluster).await?;
        assert_eq!(shown["state_reason"], "did not come back within 2 s");
        let interrupted = receiver.wait_for("stream.interrupted", 2, LIMIT).await?;
        assert_eq!(interrupted.data()["reason"], "its server is gone");
        let shown = moved.becomes("live", 2, &cluster).await?;
        assert_eq!(shown["state_reason"], Value::Null, "it was not touched");

        // Without any that takes feeds there is nowhere to publish to, and what is there can still be ended.
        drop(feed);
        moved.becomes("ended", 2, &cluster).await?;
        cluster.terminate("ingest-2").await?;
        let refused = || async {
            let new = json!({ "name": "late", "source": { "kind": "rtmp" } });
            let answer = api.send(Method::POST, "/v1/streams", Some(new)).await?;
            Ok((answer.status == 503).then_some(answer.json()))
        };
        let refused = wait_for("a stream to be refused", LIMIT, refused).await.with_context(|| cluster.log())?;
        assert_eq!(refused["code"], "no_ingest");
        assert_eq!(unborn.shown().await?["ingest"]["rtmp_url"], Value::Null);
        let shown = api.post(&format!("/v1/streams/{}/stop", unborn.id), json!({})).await?;
        assert_eq!(shown["state"], "ended");
        cluster.terminate_all().await
    })
}

#[test]
fn a_process_that_was_cut_off_for_long_goes_on_with_its_feed() -> Result<()> {
    run(async {
        let home = Home::new()?;
        let mut cluster = Cluster::new(&PROCESSES, &home.settings())?;
        cluster.set("ingest-2", "CREST_RTMP__LISTEN", &free_address()?)?;
        let server = home.database.url.rsplit('@').next().and_then(|rest| rest.split('/').next());
        let proxy = Proxy::to(server.context("no address")?).await?;
        cluster.set("ingest", "CREST_DATABASE__URL", &home.database.through(proxy.port()))?;
        cluster.start_all().await?;
        let stream = Stream::create(&cluster.api(), "cut off").await?;
        let publisher = stream.feed(&cluster.rtmp()).await?;
        stream.becomes("live", 1, &cluster).await?;
        // Nobody hears of the process that has the feed, so that the others take it for gone. It is not.
        proxy.cut();
        let shown = stream.becomes("interrupted", 1, &cluster).await?;
        assert_eq!(shown["state_reason"], "its server is gone");
        proxy.heal();
        stream.becomes("live", 1, &cluster).await?;
        cluster.api().post(&format!("/v1/streams/{}/stop", stream.id), json!({})).await?;
        stream.becomes("ended", 1, &cluster).await?;
        ensure!(publisher.end(LIMIT).await?.code != Some(0), "the publisher is not disconnected");
        cluster.terminate_all().await
    })
}
