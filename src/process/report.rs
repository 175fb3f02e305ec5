//! `report.html`: one self-contained page with the timeline, the thumbnails and the clips.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::path::Path;

use super::output::Report;
use super::pipeline::Results;

/// Clips are put into the page up to this size in all; above, the page refers to the files beside it.
const MAX_EMBEDDED_BYTES: u64 = 48 << 20;

/// Points of the score curve; more cannot be told apart on a screen.
const MAX_POINTS: usize = 2000;

/// Writes the page.
pub(super) fn write(report: &Report, results: &Results, out: &Path) -> anyhow::Result<()> {
    let clips = report.highlights.iter().filter_map(|h| h.clip.as_ref());
    let total: u64 = clips.filter_map(|c| out.join(c).metadata().ok()).map(|m| m.len()).sum();
    let embed = total <= MAX_EMBEDDED_BYTES;
    let source = |file: &Option<String>, mime: &str, embed: bool| -> anyhow::Result<Option<String>> {
        let Some(name) = file else { return Ok(None) };
        if !embed {
            return Ok(Some(name.clone()));
        }
        let bytes = std::fs::read(out.join(name)).with_context(|| format!("cannot read {name} back"))?;
        Ok(Some(format!("data:{mime};base64,{}", STANDARD.encode(bytes))))
    };
    let mut cards = Vec::new();
    for h in &report.highlights {
        cards.push(json!({
            "start": h.start_s, "end": h.end_s, "peak": h.peak_s, "score": h.score, "type": h.kind,
            "dimensions": h.dimensions, "factors": h.factors,
            "clip": source(&h.clip, "video/mp4", embed)?,
            "thumbnail": source(&h.thumbnail, "image/jpeg", true)?,
        }));
    }
    let data = json!({
        "input": report.input, "duration": report.duration_s, "enter": results.set.enter,
        "score": curve(results), "highlights": cards,
    });
    // `<` would let a value close the script element.
    let page = PAGE.replace("__DATA__", &data.to_string().replace('<', "\\u003c"));
    let path = out.join("report.html");
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// The score over time, the best of each step kept.
fn curve(results: &Results) -> Vec<(f64, f64)> {
    let step = results.scores.len().div_ceil(MAX_POINTS).max(1);
    let best = |ticks: &[crest_fusion::ScoredTick]| {
        let top = ticks.iter().max_by(|a, b| a.score.total_cmp(&b.score))?;
        Some((top.bucket.start().secs_f64(), (top.score * 1000.0).round() / 1000.0))
    };
    results.scores.chunks(step).filter_map(best).collect()
}

const PAGE: &str = include_str!("report.html");
