//! A broadcast whose chat crest follows by itself, at a server that speaks like Twitch's: what the audience writes
//! there counts as if it had been sent to the API.

use anyhow::{Context, Result, ensure};
use crest_core::chat::ChatMessage;
use crest_core::signal::{Signal, SignalBatch, SignalEntry};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::broadcast::{self, MOMENTS};
use crate::harness::{run, wait_for};
use crate::ledger::logs::Logs;
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::Server;
use crate::twitch::TwitchServer;

const SOON: Duration = Duration::from_secs(20);
/// Until the first moment was broadcast, and decided.
const MOMENT: Duration = Duration::from_secs(90);
/// Messages before the first moment.
const QUIET: i64 = 20;

/// Wall-clock time, in milliseconds.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[test]
fn an_audience_at_twitch_is_heard_and_a_message_counts_once() -> Result<()> {
    run(async {
        let (folder, twitch) = (tempfile::tempdir()?, TwitchServer::start(&["show"]).await);
        let server = Server::start_with(folder.path(), &[("CREST_CHAT__TWITCH__SERVER", &twitch.url())]).await?;
        let api = server.as_operator();
        let receiver = Receiver::register(&api).await?;
        let chat = json!({ "platform": "twitch", "channel": "https://www.twitch.tv/Show" });
        let made = api.post("/v1/streams", json!({ "name": "a", "source": { "kind": "rtmp" }, "chat": chat })).await?;
        ensure!(made["chat"] == json!({ "platform": "twitch", "channel": "show" }), "{made:#}");
        let url = format!("{}/{}", server.rtmp, made["ingest"]["stream_key"].as_str().context("no key")?);
        let publisher = Publisher::ffmpeg(broadcast::file().await?, &[], &url)?;
        twitch.joined("show").await;
        receiver.wait_for("stream.started", 1, SOON).await?;

        let start = now();
        let quiet = || (0..QUIET).for_each(|n| twitch.message("show", &format!("q{n}"), "ana", start + 10 * n, "hm"));
        let followed = |count: i64| {
            let api = &api;
            move || async move { Ok((api.counter("crest_chat_followed_total").await? >= count as f64).then_some(())) }
        };
        quiet();
        wait_for("chat to be followed", SOON, followed(QUIET)).await.with_context(|| server.log_tail())?;
        // After a lost connection all of it is told once more.
        twitch.drop_all();
        let again = || async { Ok((twitch.connections().1 > 1).then_some(())) };
        wait_for("another connection", SOON, again).await.with_context(|| server.log_tail())?;
        twitch.joined("show").await;
        quiet();
        wait_for("the repeats", SOON, followed(2 * QUIET)).await.with_context(|| server.log_tail())?;
        ensure!(api.counter("crest_chat_reconnects_total").await? >= 1.0, "no reconnect is counted");
        ensure!(api.counter("crest_chat_followers").await? == 1.0, "one chat is followed");

        // The crowd reacts to the first moment, some of whose media has been seen.
        receiver.wait_for("highlight.detected", 1, MOMENT).await.with_context(|| server.log_tail())?;
        for n in 0..400 {
            twitch.message("show", &format!("c{n}"), &format!("user{n}"), now(), "WOW");
        }
        let ready = receiver.wait_for("highlight.ready", 1, MOMENT).await.with_context(|| server.log_tail())?.data();
        let heard = |factor: &Value| {
            factor["signal"].as_str().is_some_and(|s| s.starts_with("chat_"))
                && factor["contribution"].as_f64() > Some(0.0)
        };
        ensure!(ready["factors"].as_array().is_some_and(|f| f.iter().any(heard)), "chat had no part in it: {ready:#}");
        let start_s = ready["start_s"].as_f64().context("no start")?;
        ensure!(start_s < MOMENTS[0].1 && ready["end_s"].as_f64() > Some(MOMENTS[0].0), "{ready:#}");

        publisher.kill().await?;
        let data = server.data.clone();
        ensure!(server.terminate(SOON).await?.success(), "crest did not stop in order");
        twitch.left().await;
        counted_once(&Logs::embedded(&data).await?)
    })
}

/// Each message before the moment was told twice, and counts once.
fn counted_once(logs: &Logs) -> Result<()> {
    let (mut told, mut rates, mut counted) = (0, BTreeMap::new(), BTreeMap::new());
    for record in &logs.chat {
        let message = ChatMessage::decode(&record.payload)?;
        if message.id.as_deref().is_some_and(|id| id.starts_with('q')) {
            told += 1;
            // A message in a bucket is two a second; each of these was told twice.
            *rates.entry(message.at.bucket()).or_insert(0.0) += 1.0;
        }
    }
    ensure!(told == 2 * QUIET, "{told} messages arrived");
    for record in &logs.signals {
        for entry in SignalBatch::decode(&record.payload)?.entries {
            if let SignalEntry::Value { bucket, signal: Signal::ChatRate, value } = entry {
                let most: &mut f64 = counted.entry(bucket).or_insert(0.0);
                *most = most.max(value);
            }
        }
    }
    counted.retain(|bucket, _| rates.contains_key(bucket));
    ensure!(counted == rates, "counted {counted:?}, written {rates:?}");
    Ok(())
}
