//! `crest eval`: how good predictions are against labelled windows.
//!
//! A prediction hits a label when its peak lies within `[start - 10 s, end + 30 s]` (an audience
//! reacts late) and no better-scored prediction has taken that label. One label, one hit.

use anyhow::Context;
use serde::Deserialize;
use std::path::Path;

const BEFORE_S: f64 = 10.0;
const AFTER_S: f64 = 30.0;

/// What is scored of a prediction.
#[derive(Debug, Clone, Deserialize)]
struct Prediction {
    peak_s: f64,
    score: f64,
}

#[derive(Debug, Deserialize)]
struct Predictions {
    highlights: Vec<Prediction>,
    candidates: Option<Vec<Prediction>>,
}

/// Hit or miss of each prediction, best score first.
fn hits(predictions: &[Prediction], labels: &[(f64, f64)]) -> Vec<bool> {
    let mut ranked: Vec<&Prediction> = predictions.iter().collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut taken = vec![false; labels.len()];
    let mut take = |p: &Prediction| {
        let within = |(start, end): &(f64, f64)| start - BEFORE_S <= p.peak_s && p.peak_s <= end + AFTER_S;
        let free = labels.iter().enumerate().position(|(i, l)| !taken[i] && within(l));
        free.map(|i| taken[i] = true).is_some()
    };
    ranked.into_iter().map(&mut take).collect()
}

fn average_precision(ranked: &[bool], labels: usize) -> f64 {
    let mut found = 0.0;
    let gains = ranked.iter().enumerate().filter(|(_, hit)| **hit).map(|(rank, _)| {
        found += 1.0;
        found / (rank + 1) as f64
    });
    gains.sum::<f64>() / labels as f64
}

/// Reads both files and prints the figures.
pub fn run(predictions: &Path, labels: &Path) -> anyhow::Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let found: Predictions = serde_json::from_slice(&read(predictions)?)
        .with_context(|| format!("{} does not hold highlights with peak_s and score", predictions.display()))?;
    let labels_text = read(labels)?;
    let labels: Vec<(f64, f64)> = serde_json::from_slice(&labels_text)
        .with_context(|| format!("{} is not a list of [start_s, end_s]", labels.display()))?;
    if labels.is_empty() {
        return Err(crest_core::Error::user("there are no labels to score against").into());
    }
    let ranked = hits(found.candidates.as_deref().unwrap_or(&found.highlights), &labels);
    let chosen = hits(&found.highlights, &labels);
    let right = chosen.iter().filter(|h| **h).count() as f64;
    let precision = if chosen.is_empty() { 0.0 } else { right / chosen.len() as f64 };
    let recall = right / labels.len() as f64;
    let f1 = if right > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    println!("labels             {}", labels.len());
    println!("highlights         {}", chosen.len());
    println!("candidates         {}", ranked.len());
    println!("precision          {precision:.3}");
    println!("recall             {recall:.3}");
    println!("F1                 {f1:.3}");
    println!("average precision  {:.3}", average_precision(&ranked, labels.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_clip_of_the_same_moment_counts_against() {
        let p = |peak_s, score| Prediction { peak_s, score };
        let labels = [(100.0, 110.0), (300.0, 310.0)];
        let marks = hits(&[p(105.0, 0.9), p(106.0, 0.8), p(335.0, 0.7), p(50.0, 0.6)], &labels);
        assert_eq!(marks, [true, false, true, false]);
        assert!((average_precision(&marks, 2) - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
    }
}
