//! The ledger of obligations: what crest accepted and decided, compared by id with what a receiver
//! got, with the clips there are, and with what an undisturbed run decides from the same log.

use anyhow::{Context, Result, bail, ensure};
use crest_bus::EmbeddedBus;
use crest_core::bus::{Bus, Received as Record, Start};
use crest_core::chat::ChatMessage;
use crest_core::highlight::HighlightState;
use crest_core::signal::{Signal, SignalBatch, SignalEntry};
use crest_core::topic::Topic;
use crest_core::{Bucket, Session};
use crest_fusion::{DimensionSet, StreamFusion};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::harness::decodes_silently;
use crate::receiver::Received;
use crate::server::Api;

/// What a client was promised.
#[derive(Debug, Default)]
pub struct Promised {
    /// Ids of chat messages that were answered 2xx.
    pub chat: BTreeSet<String>,
    /// Session and second of marks that were answered 2xx.
    pub marks: Vec<(u64, f64)>,
}

/// All of a stream's highlights, those that were deleted among them.
pub async fn highlights(api: &Api, stream: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for filter in ["limit=200", "limit=200&state=deleted"] {
        let list = api.get(&format!("/v1/streams/{stream}/highlights?{filter}")).await?;
        ensure!(list["next"].is_null(), "more highlights than a page holds");
        all.extend(list["data"].as_array().context("no list")?.clone());
    }
    Ok(all)
}

/// What is still owed, as words; nothing when all is paid. Fails on what can never be made good: the
/// same id with another body.
pub fn owed(promised: &Promised, highlights: &[Value], received: &[Received]) -> Result<Option<String>> {
    let mut first = BTreeMap::new();
    for webhook in received {
        let id = webhook.header("webhook-id").to_owned();
        let known = first.entry(id.clone()).or_insert(webhook);
        ensure!(known.body == webhook.body, "{id} came again with another body");
    }
    let sequences: BTreeSet<u64> = first.values().filter_map(|r| r.data()["sequence"].as_u64()).collect();
    ensure!(sequences.len() == first.len(), "two events have one sequence number");
    if sequences.last().is_some_and(|last| *last != sequences.len() as u64) {
        return Ok(Some(format!("sequences have a gap: {sequences:?}")));
    }
    let told: BTreeSet<(String, String)> =
        first.values().map(|r| (r.kind(), r.data()["id"].as_str().unwrap_or_default().to_owned())).collect();
    for (session, second) in &promised.marks {
        // Whether it is the right one is known at the end of the session.
        let before = |h: &&Value| h["session"] == *session && h["start_s"].as_f64() <= Some(*second);
        if !highlights.iter().any(|h| before(&h) && h["state"] != "deleted") {
            return Ok(Some(format!("the mark at {second} s of session {session} is no highlight")));
        }
    }
    for highlight in highlights {
        let id = highlight["id"].as_str().unwrap_or_default().to_owned();
        let end = match highlight["state"].as_str().and_then(HighlightState::parse) {
            Some(HighlightState::Ready) => "highlight.ready",
            Some(HighlightState::Failed) => "highlight.failed",
            Some(HighlightState::Deleted) => "highlight.deleted",
            other => return Ok(Some(format!("highlight {id} is still {other:?}"))),
        };
        for kind in ["highlight.detected", end] {
            if !told.contains(&(kind.to_owned(), id.clone())) {
                return Ok(Some(format!("{kind} of {id} did not arrive")));
            }
        }
    }
    Ok(None)
}

/// Every clip plays from its first frame to its last.
pub async fn clips_are_intact(api: &Api, highlights: &[Value]) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let mut whole = 0;
    for highlight in highlights.iter().filter(|h| h["state"] == "ready") {
        let Some(url) = highlight["clip_url"].as_str() else { continue };
        let answer = api.raw(reqwest::Method::GET, url, &[], Vec::new()).await?;
        ensure!(answer.status.is_success(), "{url}: {}", answer.status);
        let file = folder.path().join("clip.mp4");
        std::fs::write(&file, &answer.body)?;
        decodes_silently(&file).await.with_context(|| format!("the clip of {}", highlight["id"]))?;
        whole += 1;
    }
    Ok(whole)
}

/// Reads the logs that a stopped crest left behind, and compares: each accepted message is in the log
/// and counts once; fusion over the whole log, undisturbed, decides what was decided.
pub async fn as_if_undisturbed(data: &Path, promised: &Promised, highlights: &[Value]) -> Result<()> {
    let bus = crest_bus::open(&data.join("bus"), crest_bus::BusConfig::default())?;
    let chat = records(&bus, Topic::ChatMessages).await?;
    let signals = records(&bus, Topic::Signals).await?;
    let letters: Vec<_> = Topic::ALL
        .into_iter()
        .filter(|t| t.durable())
        .map(|t| bus.dead_letters(t, 10))
        .collect::<Result<Vec<_>, _>>()?;
    ensure!(letters.iter().all(Vec::is_empty), "records were set aside: {letters:?}");
    drop(bus);

    let (mut arrived, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut rates: BTreeMap<(Session, Bucket), f64> = BTreeMap::new();
    for record in &chat {
        let message = ChatMessage::decode(&record.record.payload)?;
        let id = message.id.clone().context("a message without id")?;
        arrived.insert(id.clone());
        // Sent again after a restart it may have come to the next session, where it is new.
        if seen.insert((message.session, id)) {
            *rates.entry((message.session, message.at.bucket())).or_default() += 2.0;
        }
    }
    let lost: Vec<_> = promised.chat.difference(&arrived).collect();
    ensure!(lost.is_empty(), "messages that were answered 2xx are lost: {lost:?}");

    let (mut counted, mut ends) = (BTreeMap::new(), BTreeMap::new());
    let mut streams: HashMap<_, StreamFusion> = HashMap::new();
    let mut decided: BTreeMap<String, HighlightState> = BTreeMap::new();
    for record in &signals {
        let batch = SignalBatch::decode(&record.record.payload)?;
        for entry in &batch.entries {
            match entry {
                SignalEntry::Value { bucket, signal: Signal::ChatRate, value } => {
                    counted.insert((batch.session, *bucket), *value);
                }
                SignalEntry::SessionEnd { at } => {
                    ends.entry(u64::from(batch.session.number())).or_insert_with(|| at.secs_f64());
                }
                _ => {}
            }
        }
        let fresh =
            || StreamFusion::new(batch.organization_id.clone(), record.record.key.clone(), DimensionSet::default());
        let fusion = streams.entry(record.record.key.clone()).or_insert_with(fresh);
        for decision in fusion.apply(&batch).decisions {
            decided.insert(decision.highlight().id.to_string(), decision.highlight().state);
        }
    }
    for (session, second) in &promised.marks {
        let end = ends.get(session).copied().with_context(|| format!("session {session} does not end"))?;
        let second = second.min(end);
        let covers = |h: &&Value| {
            h["session"] == *session && h["start_s"].as_f64() <= Some(second) && h["end_s"].as_f64() >= Some(second)
        };
        let found = highlights.iter().any(|h| covers(&h) && h["state"] != "deleted");
        ensure!(found, "the mark at {second} s of session {session}, which ends at {end} s, is no highlight");
    }
    ensure!(counted == rates, "chat is counted otherwise than it was accepted: {counted:?} for {rates:?}");

    let mut found = BTreeMap::new();
    for highlight in highlights {
        let state = highlight["state"].as_str().and_then(HighlightState::parse).context("no state")?;
        let state = match state {
            HighlightState::Ready | HighlightState::Failed => HighlightState::Final,
            other => other,
        };
        found.insert(highlight["id"].as_str().context("no id")?.to_owned(), state);
    }
    if found != decided {
        bail!("an undisturbed run decides {decided:#?}, this one decided {found:#?}");
    }
    Ok(())
}

async fn records(bus: &Arc<EmbeddedBus>, topic: Topic) -> Result<Vec<Record>> {
    // One more, so that the end of the log is known.
    let key = crest_core::StreamId::from_raw("the-end");
    let end = bus.append(topic, vec![crest_core::bus::Record::new(topic, key, "")]).await?;
    let mut reader = bus.subscribe(topic, "ledger", Start::At(0)).await?;
    let mut all = Vec::new();
    while all.last().is_none_or(|last: &Record| last.position < end) {
        all.extend(reader.next(1000).await?);
    }
    all.pop();
    Ok(all)
}

/// A batch of chat, each message with an id of its own.
pub fn chat(ids: &[String], at: &str) -> Value {
    let message = |id: &String| json!({ "id": id, "at": at, "user": format!("viewer {id}"), "text": "what a save" });
    json!({ "messages": ids.iter().map(message).collect::<Vec<_>>() })
}
