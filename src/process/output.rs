//! `highlights.json`.

use anyhow::Context;
use crest_core::highlight::{Factor, Highlight};
use crest_core::{BUCKET_NANOS, MediaTime};
use crest_fusion::ScoredTick;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

use super::pipeline::Results;

/// A peak is a candidate where no better one lies within this many ticks: 10 s.
const CANDIDATE_REACH: usize = 20;
/// Peaks below this are noise.
const CANDIDATE_FLOOR: f64 = 0.02;

/// The content of `highlights.json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) input: String,
    pub(super) duration_s: f64,
    pub(super) highlights: Vec<Entry>,
    pub(super) candidates: Vec<Candidate>,
}

/// A final highlight.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) start_s: f64,
    pub(super) end_s: f64,
    pub(super) peak_s: f64,
    pub(super) score: f64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) dimensions: BTreeMap<String, f64>,
    pub(super) factors: Vec<Factor>,
    pub(super) clip: Option<String>,
    pub(super) thumbnail: Option<String>,
}

/// A scored peak, chosen or not.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Candidate {
    pub(super) start_s: f64,
    pub(super) end_s: f64,
    pub(super) peak_s: f64,
    pub(super) score: f64,
}

impl Report {
    pub(super) fn new(input: String, results: &Results) -> Self {
        let end = results.duration.secs_f64();
        let entry = |h: &Highlight| Entry {
            id: h.id.to_string(),
            start_s: h.start.secs_f64().min(end),
            end_s: h.end.secs_f64().min(end),
            peak_s: h.peak.secs_f64().min(end),
            score: h.score,
            kind: h.kind.clone(),
            dimensions: h.dimensions.clone(),
            factors: h.factors.clone(),
            clip: None,
            thumbnail: None,
        };
        let highlights: Vec<Entry> = results.highlights.iter().map(entry).collect();
        let candidates = candidates(&highlights, &results.scores);
        Self { input, duration_s: end, highlights, candidates }
    }

    pub(super) fn write(&self, out: &Path) -> anyhow::Result<()> {
        let path = out.join("highlights.json");
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let part = out.join(".highlights.json.part");
        std::fs::write(&part, text).with_context(|| format!("cannot write {}", part.display()))?;
        std::fs::rename(&part, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The highlights, and every other local maximum of the score that is not part of one.
fn candidates(highlights: &[Entry], scores: &[ScoredTick]) -> Vec<Candidate> {
    let chosen =
        highlights.iter().map(|h| Candidate { start_s: h.start_s, end_s: h.end_s, peak_s: h.peak_s, score: h.score });
    let mut all: Vec<Candidate> = chosen.collect();
    let reach_s = CANDIDATE_REACH as f64 * BUCKET_NANOS as f64 / 1e9;
    for (index, tick) in scores.iter().enumerate() {
        let around = &scores[index.saturating_sub(CANDIDATE_REACH)..scores.len().min(index + CANDIDATE_REACH + 1)];
        let earlier = index.min(CANDIDATE_REACH);
        let best =
            around.iter().enumerate().all(|(i, t)| t.score < tick.score || (t.score == tick.score && i >= earlier));
        let peak_s = (tick.bucket.start() + MediaTime::from_nanos(BUCKET_NANOS / 2)).secs_f64();
        let part = highlights.iter().any(|h| h.start_s - reach_s <= peak_s && peak_s <= h.end_s + reach_s);
        if best && !part && tick.score >= CANDIDATE_FLOOR {
            let (start_s, end_s) = ((peak_s - 5.0).max(0.0), peak_s + 5.0);
            all.push(Candidate { start_s, end_s, peak_s, score: tick.score });
        }
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.peak_s.total_cmp(&b.peak_s)));
    all
}

/// Says on standard output what was found and where it is.
pub(super) fn print(report: &Report, out: &Path) {
    println!("{} highlights in {:.0} s", report.highlights.len(), report.duration_s);
    for h in &report.highlights {
        let factors: Vec<String> =
            h.factors.iter().take(3).map(|f| format!("{} {:.2}", f.signal, f.contribution)).collect();
        let at = h.start_s as u64;
        println!(
            "  {:02}:{:02}:{:02}  {:5.1} s  score {:.2}  {}",
            at / 3600,
            at / 60 % 60,
            at % 60,
            h.end_s - h.start_s,
            h.score,
            factors.join(", ")
        );
    }
    println!("open {}", out.join("report.html").display());
}
