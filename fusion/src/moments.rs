//! Scores become spans: hysteresis between two thresholds, merging across short dips, a limit on
//! length.

use crest_core::Bucket;
use serde::{Deserialize, Serialize};

use crate::dimensions::DimensionSet;

/// Ticks in so many seconds, at least one.
pub(crate) fn ticks(seconds: f64) -> u64 {
    ((seconds * 1e9 / crest_core::BUCKET_NANOS as f64).round() as u64).max(1)
}

/// A stretch in which the score was high.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The tick at which the score reached `enter`.
    pub entry: Bucket,
    /// The last tick at which it was at `leave` or above.
    pub last: Bucket,
    /// The best tick.
    pub peak: Bucket,
    /// The score there.
    pub score: f64,
}

/// What a tick did to the tracker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Nothing began and nothing ended.
    None,
    /// A span began at this tick.
    Entered(Bucket),
    /// A span ended; the present tick is not part of it.
    Closed(Span),
}

/// Follows one series of scores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tracker {
    open: Option<Span>,
}

impl Tracker {
    /// The span that is open, as far as it is known.
    pub fn open(&self) -> Option<&Span> {
        self.open.as_ref()
    }

    /// Takes the score of the next tick.
    pub fn push(&mut self, set: &DimensionSet, tick: Bucket, score: f64) -> Step {
        let Some(span) = &mut self.open else {
            if score < set.enter {
                return Step::None;
            }
            self.open = Some(Span { entry: tick, last: tick, peak: tick, score });
            return Step::Entered(tick);
        };
        let too_long = tick.index() >= span.entry.index() + ticks(set.longest_s);
        if score >= set.leave && !too_long {
            span.last = tick;
            if score > span.score {
                (span.peak, span.score) = (tick, score);
            }
            return Step::None;
        }
        // A dip no longer than the merge gap does not end a moment.
        if !too_long && tick.index() <= span.last.index() + ticks(set.merge_s) {
            return Step::None;
        }
        self.close()
    }

    /// Closes what is open: nothing follows.
    pub fn close(&mut self) -> Step {
        self.open.take().map_or(Step::None, Step::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(scores: &[f64]) -> Vec<Span> {
        let (set, mut tracker, mut closed) = (DimensionSet::default(), Tracker::default(), Vec::new());
        for (tick, score) in scores.iter().enumerate() {
            if let Step::Closed(span) = tracker.push(&set, Bucket::new(tick as u64), *score) {
                closed.push(span);
            }
        }
        if let Step::Closed(span) = tracker.close() {
            closed.push(span);
        }
        closed
    }

    fn series(parts: &[(usize, f64)]) -> Vec<f64> {
        parts.iter().flat_map(|(n, v)| std::iter::repeat_n(*v, *n)).collect()
    }

    #[test]
    fn a_short_dip_is_one_moment_and_a_long_one_two() {
        let short = spans(&series(&[(10, 0.0), (6, 0.6), (5, 0.1), (6, 0.7), (20, 0.0)]));
        assert_eq!(short.len(), 1);
        assert_eq!((short[0].entry.index(), short[0].last.index(), short[0].peak.index()), (10, 26, 21));
        assert_eq!(spans(&series(&[(10, 0.0), (6, 0.6), (9, 0.1), (6, 0.7), (20, 0.0)])).len(), 2);
    }

    #[test]
    fn between_the_thresholds_nothing_begins_and_nothing_ends() {
        assert!(spans(&series(&[(50, 0.2)])).is_empty());
        assert_eq!(spans(&series(&[(2, 0.4), (50, 0.2), (10, 0.0)]))[0].last.index(), 51);
    }

    #[test]
    fn a_moment_that_does_not_end_is_cut_off() {
        let spans = spans(&series(&[(300, 0.9)]));
        assert_eq!(spans[0].last.index() - spans[0].entry.index() + 1, 120);
        assert_eq!(spans.len(), 3);
    }
}
