//! Receivers that are away for a minute: everything arrives once they are back, in order, and nobody
//! else waits for them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::broadcast;
use crate::harness::{run, wait_for};
use crate::moody::{Mood, Moody};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::Server;

const LIMIT: Duration = Duration::from_secs(120);
/// How long they are away.
const AWAY: Duration = Duration::from_secs(60);

#[test]
fn receivers_that_are_away_for_a_minute_get_everything_in_order_and_delay_nobody() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let retry = ["2s"; 60].join(",");
        let settings = [("CREST_WEBHOOKS__RETRY", retry.as_str()), ("CREST_WEBHOOKS__TIMEOUT", "5s")];
        let server = Server::start_with(folder.path(), &settings).await?;
        let api = server.tenant().await?;
        let healthy = Receiver::register(&api).await?;
        let mut away = Vec::new();
        for mood in [Mood::Refusing, Mood::Hanging, Mood::BreakingOff] {
            away.push((mood, Moody::register(&api, mood).await?));
        }
        let made = api.post("/v1/streams", json!({ "name": "told to many", "source": { "kind": "rtmp" } })).await?;
        let stream = made["id"].as_str().context("no id")?.to_owned();
        let url = format!("{}/{}", server.rtmp, made["ingest"]["stream_key"].as_str().context("no key")?);
        let _publisher = Publisher::looped(broadcast::file().await?, &url)?;
        healthy.wait_for("stream.started", 1, LIMIT).await?;

        let begun = Instant::now();
        let mut marks = 0;
        while begun.elapsed() < AWAY {
            let marked = api.post(&format!("/v1/streams/{stream}/markers"), json!({})).await?;
            ensure!(marked["t"].is_number(), "{marked}");
            marks += 1;
            // Who is away holds up nobody: each moment reaches the healthy one before the next is made.
            healthy.wait_for("highlight.detected", marks, LIMIT).await.with_context(|| server.log_tail())?;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        for (mood, receiver) in &away {
            assert_eq!(receiver.taken(), [], "{mood:?} takes nothing");
            assert!(receiver.requests() > 1, "{mood:?} was tried {} times", receiver.requests());
            receiver.now(Mood::Taking);
        }
        api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
        healthy.wait_for("stream.ended", 1, LIMIT).await?;
        healthy.wait_for("highlight.ready", marks, LIMIT).await?;

        for (mood, receiver) in &away {
            let all = || async {
                let told = sequences(&receiver.taken())?.len();
                let owed = healthy.received().len();
                ensure!(told == owed, "{told} of {owed} events, {} requests", receiver.requests());
                Ok(Some(()))
            };
            wait_for("everything that was told meanwhile", LIMIT, all).await.with_context(|| format!("{mood:?}"))?;
            let taken = sequences(&receiver.taken())?;
            assert_eq!(taken, (1..=taken.len() as u64).collect::<Vec<_>>(), "{mood:?}: in order and without a gap");
            let mut bodies = BTreeMap::new();
            for (id, body) in receiver.seen() {
                let first = bodies.entry(id.clone()).or_insert_with(|| body.clone());
                assert_eq!(*first, body, "{mood:?}: a repeat of {id} differs");
            }
        }
        Ok(())
    })
}

/// The sequence numbers of what was taken, repeats left out.
fn sequences(taken: &[(String, Vec<u8>)]) -> Result<Vec<u64>> {
    let mut ids = BTreeSet::new();
    let mut all = Vec::new();
    for (id, body) in taken {
        if ids.insert(id) {
            let body: Value = serde_json::from_slice(body)?;
            all.push(body["data"]["sequence"].as_u64().context("no sequence")?);
        }
    }
    Ok(all)
}
