//! Feeds and chats that one process takes and another steers: a pull runs once, a key that was replaced holds
//! everywhere, and the API knows how servers are doing that another process relays to.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::process::Command;

use crate::broadcast;
use crate::cluster::Cluster;
use crate::harness::{run, wait_for};
use crate::publisher::Publisher;
use crate::pull::origin::{self, Origin};
use crate::receiver::Receiver;
use crate::server::Api;
use crate::services::{Home, free_address};
use crate::twitch::TwitchServer;

/// Until others notice that a process is gone, on a machine that does a lot else.
const LIMIT: Duration = Duration::from_secs(120);
const PROCESSES: [&str; 3] = ["api,deliver", "ingest", "ingest-2"];
const INGESTS: [&str; 2] = ["ingest", "ingest-2"];

/// One that has the API, and two that take feeds; where the second of them does.
async fn three(more: &[(&str, &str)]) -> Result<(Home, Cluster, String)> {
    let home = Home::new()?;
    let mut settings = home.settings();
    settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let mut cluster = Cluster::new(&PROCESSES, &settings)?;
    let second = free_address()?;
    cluster.set("ingest-2", "CREST_RTMP__LISTEN", &second)?;
    cluster.start_all().await?;
    Ok((home, cluster, format!("rtmp://{second}/live")))
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("not a text: {value}"))
}

/// Waits until a stream looks like this.
async fn until(cluster: &Cluster, stream: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let look = || async {
        let shown = cluster.api().get(&format!("/v1/streams/{stream}")).await?;
        if is(&shown) { Ok(Some(shown)) } else { Err(anyhow::anyhow!("it is {shown}")) }
    };
    wait_for(what, LIMIT, look).await.with_context(|| cluster.log())
}

/// A figure of every process that takes feeds and runs.
async fn figures(cluster: &Cluster, name: &str) -> Result<BTreeMap<&'static str, f64>> {
    let mut figures = BTreeMap::new();
    for process in INGESTS {
        if let Ok(api) = cluster.of(process).await {
            figures.insert(process, api.counter(name).await?);
        }
    }
    Ok(figures)
}

/// Waits until so many messages of a chat were followed, by whichever process.
async fn followed(cluster: &Cluster, count: f64) -> Result<()> {
    let all = || async {
        let heard: f64 = figures(cluster, "crest_chat_followed_total").await?.values().sum();
        ensure!(heard <= count, "{heard} of {count} messages");
        Ok((heard >= count).then_some(()))
    };
    wait_for("the chat to be followed", LIMIT, all).await.with_context(|| cluster.log())
}

#[test]
fn a_feed_is_pulled_and_its_chat_followed_by_one_process_and_then_by_another() -> Result<()> {
    run(async {
        let (origin, twitch) = (Origin::start().await?, TwitchServer::start(&["show"]).await);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(origin::source().await?);
        ffmpeg.args(["-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "6"]);
        ffmpeg.args(["-hls_flags", "temp_file"]).arg(origin.path("live.m3u8"));
        let encoder = Publisher::start(ffmpeg)?;
        let (_home, cluster, _) = three(&[
            ("CREST_PULL__ALLOW", "127.0.0.0/8"),
            ("CREST_PULL__PAUSE", "200ms"),
            ("CREST_PULL__MAX_PAUSE", "400ms"),
            ("CREST_CHAT__TWITCH__SERVER", &twitch.url()),
        ])
        .await?;
        let api = cluster.api();
        let source = json!({ "kind": "url", "url": origin.url("live.m3u8") });
        let chat = json!({ "platform": "twitch", "channel": "show" });
        let made = api.post("/v1/streams", json!({ "name": "pulled", "source": source, "chat": chat })).await?;
        let stream = text(&made["id"])?;
        until(&cluster, &stream, "the stream to be live", |shown| shown["state"] == "live").await?;
        twitch.joined("show").await;
        let now = jiff::Timestamp::now().as_millisecond();
        (0..10).for_each(|n| twitch.message("show", &format!("a{n}"), "ana", now, "hm"));
        followed(&cluster, 10.0).await?;
        let fragments = || figures(&cluster, "crest_segment_fragments_total");
        let several = || async { Ok((fragments().await?.values().sum::<f64>() > 8.0).then_some(())) };
        wait_for("some seconds of the feed", LIMIT, several).await.with_context(|| cluster.log())?;
        let stored = fragments().await?;
        let has = *stored.iter().find(|(_, count)| **count > 0.0).context("nobody has it")?.0;
        let other = INGESTS.into_iter().find(|process| *process != has).context("nobody else")?;
        assert_eq!(stored[other], 0.0, "{has} pulls it, and so does {other}");
        let followers = figures(&cluster, "crest_chat_followers").await?;
        assert_eq!((followers[has], followers[other]), (1.0, 0.0), "the chat is followed where the feed is");
        // Each segment is fetched once.
        let mut fetched = origin.asked();
        fetched.retain(|path| path.ends_with(".ts"));
        fetched.sort();
        ensure!(fetched.windows(2).all(|pair| pair[0] != pair[1]), "{fetched:?}");

        cluster.kill(has).await?;
        let (before, asked) =
            (cluster.of(other).await?.counter("crest_segment_fragments_total").await?, origin.asked().len());
        let goes_on = || async {
            let stored = cluster.of(other).await?.counter("crest_segment_fragments_total").await?;
            Ok((stored > before + 3.0).then_some(()))
        };
        wait_for("the other one to pull it", LIMIT, goes_on).await.with_context(|| cluster.log())?;
        ensure!(origin.asked().len() > asked, "nothing was asked for");
        until(&cluster, &stream, "the stream to be live again", |shown| shown["state"] == "live").await?;
        twitch.joined("show").await;
        let now = jiff::Timestamp::now().as_millisecond();
        (0..10).for_each(|n| twitch.message("show", &format!("b{n}"), "ben", now, "well"));
        followed(&cluster, 10.0).await?;

        // The API stops what another process pulls, and what it follows.
        api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
        let shown = until(&cluster, &stream, "the stream to be ended", |shown| shown["state"] == "ended").await?;
        assert_eq!(shown["state_reason"], "stopped");
        let none = || async { Ok((figures(&cluster, "crest_chat_followers").await?[other] == 0.0).then_some(())) };
        wait_for("the chat to be left", LIMIT, none).await.with_context(|| cluster.log())?;
        encoder.kill().await?;
        cluster.terminate_all().await
    })
}

#[test]
fn a_key_that_was_replaced_ends_what_another_process_feeds_with_it_and_nothing_else() -> Result<()> {
    run(async {
        let (_home, cluster, second) = three(&[]).await?;
        let api = cluster.api();
        let receiver = Receiver::register(&api).await?;
        let make = async |name: &str| {
            let made = api.post("/v1/streams", json!({ "name": name, "source": { "kind": "rtmp" } })).await?;
            anyhow::Ok((text(&made["id"])?, text(&made["ingest"]["stream_key"])?))
        };
        let (first, other) = (make("a feed").await?, make("another").await?);
        let publish = async |at: &str, key: &str| Publisher::looped(broadcast::file().await?, &format!("{at}/{key}"));
        let feed = publish(&cluster.rtmp(), &first.1).await?;
        let beside = publish(&cluster.rtmp(), &other.1).await?;
        let live = |shown: &Value| shown["state"] == "live";
        until(&cluster, &first.0, "the stream to be live", live).await?;
        until(&cluster, &other.0, "the other stream to be live", live).await?;

        let rotated = api.post(&format!("/v1/streams/{}/rotate-key", first.0), json!({})).await?;
        let new = text(&rotated["ingest"]["stream_key"])?;
        ensure!(feed.end(LIMIT).await?.code != Some(0), "it went on publishing");
        let of_it = |shown: &Value| shown["state"] == "interrupted";
        let shown = until(&cluster, &first.0, "the stream to be interrupted", of_it).await?;
        assert_eq!(shown["state_reason"], "its stream key was replaced");
        // In neither process.
        for at in [&cluster.rtmp(), &second] {
            let refused = publish(at, &first.1).await?.end(LIMIT).await?;
            ensure!(refused.err.contains("unknown stream key"), "{at}: {}", refused.err);
        }
        let again = publish(&second, &new).await?;
        until(&cluster, &first.0, "the stream to be live again", live).await?;
        // Both hear of the next key, and only the one that has the feed has something to end.
        api.post(&format!("/v1/streams/{}/rotate-key", first.0), json!({})).await?;
        ensure!(again.end(LIMIT).await?.code != Some(0), "it went on publishing");
        receiver.wait_for("stream.interrupted", 2, LIMIT).await.with_context(|| cluster.log())?;
        until(&cluster, &other.0, "the other stream to be live", live).await?;
        let told = receiver.kinds().into_iter().filter(|kind| kind == "stream.interrupted").count();
        assert_eq!(told, 2, "the other publisher was disturbed");
        beside.kill().await?;
        for key in [&first.1, &new] {
            let secret = key.strip_prefix("sk_live_").context("a key of another shape")?;
            ensure!(!cluster.log().contains(secret), "a stream key is in a log");
        }
        cluster.terminate_all().await
    })
}

/// Waits until the servers that a stream is relayed to are in these states.
async fn forwards(cluster: &Cluster, stream: &str, states: &[&str]) -> Result<Value> {
    let as_they_should = |shown: &Value| {
        let now = shown["forward"].as_array().into_iter().flatten().map(|target| target["state"].clone());
        now.collect::<Vec<_>>() == states
    };
    Ok(until(cluster, stream, &format!("targets to be {states:?}"), as_they_should).await?["forward"].clone())
}

#[test]
fn the_api_knows_how_servers_are_doing_that_another_process_relays_to() -> Result<()> {
    run(async {
        let settings = [("CREST_PULL__ALLOW_PRIVATE", "true"), ("CREST_FORWARD__TIMEOUT", "3s")];
        let (_home, cluster, second) = three(&settings).await?;
        let api: Api = cluster.api();
        // What is relayed goes from one of the processes to the other; at the second address there is nobody.
        let target = api.post("/v1/streams", json!({ "name": "there", "source": { "kind": "rtmp" } })).await?;
        let nobody = format!("rtmp://{}/app", free_address()?);
        let forward = json!([
            { "url": second, "stream_key": target["ingest"]["stream_key"] },
            { "url": nobody, "stream_key": "a_key" },
        ]);
        let new = json!({ "name": "here", "source": { "kind": "rtmp" }, "forward": forward });
        let made = api.post("/v1/streams", new).await?;
        let (stream, there) = (text(&made["id"])?, text(&target["id"])?);
        let url = format!("{}/{}", cluster.rtmp(), text(&made["ingest"]["stream_key"])?);
        forwards(&cluster, &stream, &["idle", "idle"]).await?;
        let publisher = Publisher::looped(broadcast::file().await?, &url)?;
        let shown = forwards(&cluster, &stream, &["live", "waiting"]).await?;
        ensure!(shown[1]["reason"].as_str().is_some_and(|why| why.contains("cannot be reached")), "{shown}");
        ensure!(shown[0]["since"].is_string() && !shown.to_string().contains("a_key"), "{shown}");
        until(&cluster, &there, "the relayed feed to be live", |shown| shown["state"] == "live").await?;
        publisher.kill().await?;
        forwards(&cluster, &stream, &["idle", "idle"]).await?;

        // A process that is gone cannot say so any more, and what it said last is not shown as if it held.
        let publisher = Publisher::looped(broadcast::file().await?, &url)?;
        forwards(&cluster, &stream, &["live", "waiting"]).await?;
        cluster.kill("ingest").await?;
        forwards(&cluster, &stream, &["idle", "idle"]).await?;
        drop(publisher);
        cluster.terminate_all().await
    })
}
