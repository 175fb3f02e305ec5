//! Robust normalisation against a signal's own past: quantiles of a histogram that forgets
//! exponentially. The spread is the distance from the median to the nearer quartile (in a normal
//! distribution 0.6745 standard deviations): a third of a broadcast full of moments, or of stills,
//! pulls at one side only and leaves both the median and the spread almost where they were.

use serde::{Deserialize, Serialize};

use crate::packed::{self, Packed, Packer, Unpacker};

/// Bins of the histogram.
const BINS: usize = 256;

/// Ticks before a value can be called unusual: 10 s.
const WARM_UP: u64 = 20;

/// What is known of a signal's usual values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    low: f64,
    width: f64,
    /// Smallest spread that counts as one standard deviation.
    floor: f64,
    /// Deviations above the median at which the normalised value is 1/2.
    half: f64,
    /// Growth of the weight of a new value from tick to tick; what is older weighs less.
    growth: f64,
    weight: f64,
    total: f64,
    count: u64,
    #[serde(with = "packed")]
    bins: Bins,
}

/// The histogram. Most signals stay within a small part of their range.
#[derive(Debug, Clone, PartialEq)]
struct Bins {
    weights: Box<[f64; BINS]>,
    /// Below this one all are empty.
    lowest: usize,
}

impl Default for Bins {
    fn default() -> Self {
        Self { weights: Box::new([0.0; BINS]), lowest: BINS }
    }
}

impl Packed for Bins {
    fn pack(&self, packer: &mut Packer) {
        let filled = || self.weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
        packer.whole(filled().count() as u64);
        for (index, weight) in filled() {
            packer.whole(index as u64);
            packer.number(*weight);
        }
    }

    fn unpack(unpacker: &mut Unpacker) -> Option<Self> {
        let mut bins = Self::default();
        for _ in 0..unpacker.whole()? {
            let index = usize::try_from(unpacker.whole()?).ok()?;
            *bins.weights.get_mut(index)? = unpacker.number()?;
            bins.lowest = bins.lowest.min(index);
        }
        Some(bins)
    }
}

impl Baseline {
    /// Of values in `low..high`, forgetting half in `half_life` ticks; `half` deviations above the
    /// median read 1/2.
    pub fn new(low: f64, high: f64, floor: f64, half: f64, half_life: f64) -> Self {
        Self {
            low,
            width: (high - low) / BINS as f64,
            floor,
            half,
            growth: 2f64.powf(1.0 / half_life),
            weight: 1.0,
            total: 0.0,
            count: 0,
            bins: Bins::default(),
        }
    }

    /// How unusual a value is: 0 at or below the median, rising towards 1.
    /// 0 while too little is known.
    pub fn normalise(&self, value: f64) -> f64 {
        if self.count < WARM_UP {
            return 0.0;
        }
        let [low, median, high] = self.quantiles([0.25, 0.5, 0.75]);
        let spread = (median - low).min(high - median) / 0.6745;
        let z = (value - median) / spread.max(self.floor);
        let square = z.max(0.0).powi(2);
        square / (square + self.half.powi(2))
    }

    /// Adds a value to the past.
    pub fn add(&mut self, value: f64) {
        let index = ((value - self.low) / self.width).clamp(0.0, (BINS - 1) as f64) as usize;
        self.weight *= self.growth;
        self.bins.weights[index] += self.weight;
        self.bins.lowest = self.bins.lowest.min(index);
        self.total += self.weight;
        self.count += 1;
        if self.weight > 1e12 {
            let scale = 1.0 / self.weight;
            self.bins.weights.iter_mut().for_each(|b| *b *= scale);
            self.total *= scale;
            self.weight = 1.0;
        }
    }

    /// The values below which such shares of the past lie, interpolated within their bins.
    fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [f64; N] {
        let mut left = shares.map(|share| share * self.total);
        let mut found = [self.low + BINS as f64 * self.width; N];
        let (mut open, mut missing) = ([true; N], N);
        for (index, weight) in self.bins.weights.iter().enumerate().skip(self.bins.lowest) {
            for n in 0..N {
                if open[n] && *weight > 0.0 && left[n] <= *weight {
                    found[n] = self.low + (index as f64 + left[n] / weight) * self.width;
                    (open[n], missing) = (false, missing - 1);
                }
                left[n] -= weight;
            }
            if missing == 0 {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_is_low_and_the_unusual_high() {
        let mut baseline = Baseline::new(-70.0, 0.0, 1.0, 3.0, 1200.0);
        for n in 0..600 {
            assert!(n >= 20 || baseline.normalise(0.0) == 0.0);
            baseline.add(-30.0 + f64::from(n % 7) * 0.5);
        }
        assert!(baseline.normalise(-28.5) < 0.1);
        assert!(baseline.normalise(-10.0) > 0.9);
        assert_eq!(baseline.normalise(-60.0), 0.0);
    }

    #[test]
    fn a_louder_present_becomes_the_usual() {
        let mut baseline = Baseline::new(-70.0, 0.0, 1.0, 3.0, 100.0);
        (0..500).for_each(|_| baseline.add(-30.0));
        let before = baseline.normalise(-15.0);
        (0..2000).for_each(|_| baseline.add(-15.0));
        assert!(before > 0.9 && baseline.normalise(-15.0) < 0.1);
    }

    proptest! {
        #[test]
        fn always_between_0_and_1_and_monotonic(values in prop::collection::vec(-100.0f64..100.0, 0..200), a in -200.0f64..200.0, b in -200.0f64..200.0) {
            let mut baseline = Baseline::new(-70.0, 0.0, 1.0, 3.0, 50.0);
            values.iter().for_each(|v| baseline.add(*v));
            let (low, high) = (baseline.normalise(a.min(b)), baseline.normalise(a.max(b)));
            prop_assert!((0.0..=1.0).contains(&low) && low <= high && high <= 1.0);
        }
    }
}
