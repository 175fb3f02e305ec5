//! The lag of chat behind media, estimated online: cross-correlation of what is seen and heard with
//! what is typed, over a bounded range of lags, with a prior that holds until there is evidence.

use serde::{Deserialize, Serialize};

/// Lags that are considered, in buckets: 0 to 12 s.
pub const MAX_LAG: usize = 24;

/// Where the prior peaks, in buckets: viewers see the picture seconds late and then have to type.
const PRIOR_LAG: f64 = 11.0;
/// Evidence the prior is worth.
const PRIOR_WEIGHT: f64 = 2.0;
/// What remains of the evidence after a tick; half is forgotten in about half an hour.
const MEMORY: f64 = 0.9998;

/// Evidence by lag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LagEstimator {
    evidence: [f64; MAX_LAG + 1],
    /// What follows from it.
    best: u64,
}

impl Default for LagEstimator {
    fn default() -> Self {
        Self { evidence: [0.0; MAX_LAG + 1], best: PRIOR_LAG as u64 }
    }
}

impl LagEstimator {
    /// Takes the chat score of a tick and the media scores of it and the ticks before, newest first.
    pub fn add(&mut self, chat: f64, media: impl Iterator<Item = f64>) {
        for (evidence, media) in self.evidence.iter_mut().zip(media) {
            *evidence = *evidence * MEMORY + chat * media;
        }
        self.best = self.weighed();
    }

    /// The best lag so far, in buckets.
    pub fn estimate(&self) -> u64 {
        self.best
    }

    fn weighed(&self) -> u64 {
        let weigh = |(lag, evidence): (usize, &f64)| {
            let distance = (lag as f64 - PRIOR_LAG).abs() / MAX_LAG as f64;
            evidence + PRIOR_WEIGHT * (1.0 - distance)
        };
        let mut best = (0, f64::MIN);
        for (lag, evidence) in self.evidence.iter().enumerate() {
            let weight = weigh((lag, evidence));
            if weight > best.1 {
                best = (lag, weight);
            }
        }
        best.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prior_holds_until_there_is_evidence() {
        let mut lag = LagEstimator::default();
        assert_eq!(lag.estimate(), PRIOR_LAG as u64);
        // Moments of ten ticks every hundred; chat follows six ticks later.
        let media = |t: i64| if t.rem_euclid(100) < 10 { 0.9 } else { 0.05 };
        for t in 0..1000i64 {
            lag.add(media(t - 6), (0..=MAX_LAG as i64).map(|l| media(t - l)));
        }
        assert_eq!(lag.estimate(), 6);
    }
}
