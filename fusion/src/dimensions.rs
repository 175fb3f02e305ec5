//! The dimension set: what is weighed, how much, and from which score on a moment is a highlight.

use crest_core::signal::{Modality, Signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Signals there are.
pub const SIGNALS: usize = Signal::CATALOGUE.len();

/// Weights that are taken: far from where sums of them lose what is small, or are no longer finite.
const WEIGHTS: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

/// Normalised values of one tick, by signal; `None` where its modality is idle or absent.
pub type Values = [Option<f64>; SIGNALS];

/// One signal within a dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// The signal.
    pub signal: Signal,
    /// Its weight within the dimension, 0.000001 to 1000000.
    pub weight: f64,
}

/// A named aspect of a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dimension {
    /// Its name.
    pub name: String,
    /// Its weight within the score, 0.000001 to 1000000.
    pub weight: f64,
    /// What it is made of.
    pub terms: Vec<Term>,
}

/// A tenant's idea of a highlight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DimensionSet {
    /// Rises with each change.
    pub version: u64,
    /// What is weighed.
    pub dimensions: Vec<Dimension>,
    /// A moment opens where the score reaches this.
    pub enter: f64,
    /// A silent audience is weak evidence: a moment is worth at least this share of what it is worth
    /// by its media alone, 0..1.
    pub without_audience: f64,
    /// An open moment closes where the score stays below this.
    pub leave: f64,
    /// Moments no further apart than this are one, in seconds.
    pub merge_s: f64,
    /// After a highlight, none begins for this long, in seconds.
    pub cooldown_s: f64,
    /// A moment is cut off after this long, in seconds.
    pub longest_s: f64,
    /// A moment shorter than this is widened around its peak, in seconds.
    pub shortest_s: f64,
}

impl Default for DimensionSet {
    fn default() -> Self {
        let term = |signal, weight| Term { signal, weight };
        let dimension = |name: &str, weight, terms| Dimension { name: name.to_owned(), weight, terms };
        Self {
            version: 1,
            dimensions: vec![
                dimension("sound", 0.3, vec![term(Signal::AudioLoudness, 0.5), term(Signal::AudioOnset, 0.5)]),
                dimension("picture", 0.5, vec![term(Signal::VideoActivity, 0.5), term(Signal::VideoChange, 0.5)]),
                dimension("audience", 0.45, vec![term(Signal::ChatRate, 0.6), term(Signal::ChatUnique, 0.4)]),
            ],
            enter: 0.23,
            without_audience: 0.85,
            leave: 0.14,
            merge_s: 3.0,
            cooldown_s: 5.0,
            longest_s: 60.0,
            shortest_s: 5.0,
        }
    }
}

/// A tick evaluated in full.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evaluation {
    /// 0..1.
    pub score: f64,
    /// Value of each dimension that could be evaluated.
    pub dimensions: BTreeMap<String, f64>,
    /// Share of each signal in the score; the shares add up to it.
    pub contributions: Vec<(Signal, f64)>,
}

impl DimensionSet {
    /// Says what is wrong with a set, if something is.
    pub fn check(&self) -> Result<(), String> {
        let sane = |weight: f64| WEIGHTS.contains(&weight);
        if self.dimensions.is_empty() {
            return Err("a dimension set needs at least one dimension".into());
        }
        for dimension in &self.dimensions {
            if dimension.terms.is_empty() {
                return Err(format!("dimension '{}' has no terms", dimension.name));
            }
            if !sane(dimension.weight) || dimension.terms.iter().any(|t| !sane(t.weight)) {
                let (low, high) = (WEIGHTS.start(), WEIGHTS.end());
                return Err(format!("dimension '{}': weights must lie in {low}..{high}", dimension.name));
            }
        }
        if !(0.0..=1.0).contains(&self.without_audience) {
            return Err("without_audience must lie in 0..1".into());
        }
        if !(0.0 < self.leave && self.leave <= self.enter && self.enter < 1.0) {
            return Err("thresholds must hold 0 < leave <= enter < 1".into());
        }
        let times = [self.merge_s, self.cooldown_s, self.longest_s, self.shortest_s];
        if times.iter().any(|t| !(0.0..=3600.0).contains(t)) || self.longest_s < self.shortest_s.max(1.0) {
            return Err("times must lie in 0..3600 s, longest_s not below shortest_s".into());
        }
        Ok(())
    }

    /// What a moment is worth: the weighted mean over what is there, the weight of what is not being
    /// shared out among the rest; or the worth of the media alone, discounted, where the audience
    /// does not react. `None` where nothing is there.
    pub fn score(&self, values: &Values) -> Option<f64> {
        let all = self.mean(values)?;
        Some(self.mean(&media_only(values)).map_or(all, |media| self.weigh(all, media)))
    }

    /// The score of a moment of which the means are known: over everything, and over the media, 0 where
    /// there are none.
    pub(crate) fn weigh(&self, all: f64, media: f64) -> f64 {
        all.max(media * self.without_audience)
    }

    /// Like [`DimensionSet::score`], with what made it.
    pub fn evaluate(&self, values: &Values) -> Evaluation {
        let dimensions: BTreeMap<String, f64> =
            self.dimensions.iter().filter_map(|d| d.value(values).map(|v| (d.name.clone(), v))).collect();
        let Some(score) = self.score(values) else { return Evaluation::default() };
        // The factors are those of the mean that decided, scaled to its score.
        let all = self.mean(values).unwrap_or(0.0);
        let counted = if all >= score { *values } else { media_only(values) };
        let mean = self.mean(&counted).unwrap_or(0.0);
        let scale = if mean > 0.0 { score / mean } else { 0.0 };
        let present: Vec<&Dimension> = self.dimensions.iter().filter(|d| d.value(&counted).is_some()).collect();
        let weights: f64 = present.iter().map(|d| d.weight).sum();
        let mut contributions = Vec::new();
        for dimension in present {
            let terms: f64 = dimension.present(&counted).map(|(t, _)| t.weight).sum();
            for (term, value) in dimension.present(&counted) {
                contributions.push((term.signal, scale * dimension.weight / weights * term.weight / terms * value));
            }
        }
        contributions.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Evaluation { score, dimensions, contributions }
    }

    /// The weighted mean over the dimensions that can be evaluated.
    pub(crate) fn mean(&self, values: &Values) -> Option<f64> {
        let (mut sum, mut weights) = (0.0, 0.0);
        for dimension in &self.dimensions {
            if let Some(value) = dimension.value(values) {
                sum += dimension.weight * value;
                weights += dimension.weight;
            }
        }
        (weights > 0.0).then(|| sum / weights)
    }
}

/// The values without those of chat.
pub(crate) fn media_only(values: &Values) -> Values {
    let mut media = *values;
    for info in Signal::CATALOGUE.iter().filter(|i| i.modality == Modality::Chat) {
        media[info.signal as usize] = None;
    }
    media
}

impl Dimension {
    fn present<'a>(&'a self, values: &'a Values) -> impl Iterator<Item = (&'a Term, f64)> {
        self.terms.iter().filter_map(|t| values[t.signal as usize].map(|v| (t, v)))
    }

    fn value(&self, values: &Values) -> Option<f64> {
        let (sum, weights) = self.present(values).fold((0.0, 0.0), |(s, w), (t, v)| (s + t.weight * v, w + t.weight));
        (weights > 0.0).then(|| sum / weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_what_is_missing_is_shared_out() {
        let set = DimensionSet::default();
        let mut values: Values = [Some(0.8); SIGNALS];
        assert!((set.score(&values).unwrap_or(0.0) - 0.8).abs() < 1e-12);
        values[Signal::ChatRate as usize] = None;
        values[Signal::ChatUnique as usize] = None;
        assert!((set.score(&values).unwrap_or(0.0) - 0.8).abs() < 1e-12);
        assert_eq!(set.score(&[None; SIGNALS]), None);
        let evaluation = set.evaluate(&values);
        let sum: f64 = evaluation.contributions.iter().map(|c| c.1).sum();
        assert!((sum - evaluation.score).abs() < 1e-12);
    }

    #[test]
    fn a_silent_audience_discounts_and_does_not_veto() {
        let set = DimensionSet::default();
        let mut values: Values = [Some(0.8); SIGNALS];
        values[Signal::ChatRate as usize] = Some(0.0);
        values[Signal::ChatUnique as usize] = Some(0.0);
        let evaluation = set.evaluate(&values);
        assert!((evaluation.score - 0.8 * set.without_audience).abs() < 1e-12);
        let sum: f64 = evaluation.contributions.iter().map(|c| c.1).sum();
        assert!((sum - evaluation.score).abs() < 1e-12);
    }

    #[test]
    fn a_wrong_set_is_refused_with_a_reason() {
        assert_eq!(DimensionSet::default().check(), Ok(()));
        let upside_down = DimensionSet { enter: 0.1, leave: 0.2, ..DimensionSet::default() };
        assert!(upside_down.check().is_err_and(|e| e.contains("leave <= enter")));
    }
}
