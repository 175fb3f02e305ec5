//! The ledger of obligations: what crest accepted and decided, compared by id with what a receiver
//! got, with the clips there are, and with what an undisturbed run decides from the same log.

pub mod kafka;
pub mod logs;
pub mod undisturbed;

use anyhow::{Context, Result, ensure};
use crest_core::highlight::HighlightState;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{decodes_silently, probe};
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

/// Each event that arrived, by its id. Fails on what can never be made good: the same id with another
/// body, two events with one sequence number.
pub fn first_arrivals(received: &[Received]) -> Result<BTreeMap<String, &Received>> {
    let mut first = BTreeMap::new();
    for webhook in received {
        let id = webhook.header("webhook-id").to_owned();
        let known = first.entry(id.clone()).or_insert(webhook);
        ensure!(known.body == webhook.body, "{id} came again with another body");
    }
    let sequences: BTreeSet<u64> = first.values().filter_map(|r| r.data()["sequence"].as_u64()).collect();
    ensure!(sequences.len() == first.len(), "two events have one sequence number");
    Ok(first)
}

/// What is still owed, as words; nothing when all is paid. Fails on what can never be made good.
pub fn owed(promised: &Promised, highlights: &[Value], received: &[Received]) -> Result<Option<String>> {
    let first = first_arrivals(received)?;
    let sequences: BTreeSet<u64> = first.values().filter_map(|r| r.data()["sequence"].as_u64()).collect();
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
        let told = highlight["clip_duration_s"].as_f64().context("a clip without duration")?;
        let plays: f64 = probe(&file, "v:0", "stream=duration").await?.parse()?;
        ensure!((plays - told).abs() < FRAME * 4.0, "a clip of {told} s plays {plays} s: {highlight}");
        whole += 1;
    }
    Ok(whole)
}

/// A frame of the test broadcast, and a little.
const FRAME: f64 = 0.05;

/// By how much the tracks of a publisher differ; a quarter of a group of pictures.
const UNEVEN: f64 = 0.5;

/// Where the feed was never cut off: each moment that was kept has a clip, and the clip shows all of it.
/// `ends` tells where each session ends.
pub fn clips_are_whole(highlights: &[Value], ends: &BTreeMap<u64, f64>) -> Result<()> {
    for highlight in highlights.iter().filter(|h| h["state"] != "deleted") {
        ensure!(highlight["state"] == "ready", "no clip: {highlight}");
        let number = |name: &str| highlight[name].as_f64().with_context(|| format!("no {name}: {highlight}"));
        let session = highlight["session"].as_u64().context("no session")?;
        let end = ends.get(&session).copied().with_context(|| format!("session {session} does not end"))?;
        let (from, to) = (number("clip_start_s")?, number("clip_start_s")? + number("clip_duration_s")?);
        // A publisher that is cut off has sent more of one track than of the other.
        let (start, last) = (number("start_s")?, number("end_s")?.min(end - UNEVEN));
        ensure!(
            from <= start + FRAME + UNEVEN && to >= last - 2.0 * FRAME,
            "the clip shows {from} to {to} s of a session of {end} s: {highlight}"
        );
    }
    Ok(())
}

/// A batch of chat, each message with an id of its own.
pub fn chat(ids: &[String], at: &str) -> Value {
    let message = |id: &String| json!({ "id": id, "at": at, "user": format!("viewer {id}"), "text": "what a save" });
    json!({ "messages": ids.iter().map(message).collect::<Vec<_>>() })
}
