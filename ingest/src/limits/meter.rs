//! How much arrives: a bucket that forgives bursts, and rates over the last few seconds.

use std::time::{Duration, Instant};

use super::ledger::Rate;

/// A token bucket (RFC 2697's idea of a committed rate with a burst): it holds what `burst` at the rate is, fills
/// at the rate, and starts full.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Per second; 0 is no limit.
    rate: u64,
    most: f64,
    left: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(rate: u64, burst: Duration) -> Self {
        let most = rate as f64 * burst.as_secs_f64();
        Self { rate, most, left: most, at: None }
    }

    /// Whether so much may still be taken now. What was too much is not taken.
    pub(crate) fn take(&mut self, amount: u64, now: Instant) -> bool {
        if self.rate == 0 {
            return true;
        }
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.left = (self.left + self.rate as f64 * passed.as_secs_f64()).min(self.most);
        let enough = amount as f64 <= self.left;
        if enough {
            self.left -= amount as f64;
        }
        enough
    }
}

/// Measures rates, window by window.
#[derive(Debug)]
pub(super) struct Meter {
    window: Duration,
    since: Option<Instant>,
    sum: Rate,
}

impl Meter {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, since: None, sum: Rate::default() }
    }

    /// Adds what arrived now; returns the rate of a window that is over with it.
    pub(super) fn add(&mut self, pixels: u64, bits: u64, now: Instant) -> Option<Rate> {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        let mut rate = None;
        if passed >= self.window && !passed.is_zero() {
            let per_second = |sum: u64| (sum as f64 / passed.as_secs_f64()) as u64;
            rate = Some(Rate { pixels: per_second(self.sum.pixels), bits: per_second(self.sum.bits) });
            self.sum = Rate::default();
            self.since = Some(now);
        }
        self.sum.pixels = self.sum.pixels.saturating_add(pixels);
        self.sum.bits = self.sum.bits.saturating_add(bits);
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_forgiven_and_a_flood_is_not() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut bucket = Bucket::new(100, Duration::from_secs(10));
        assert!(bucket.take(1000, at(0)), "what a stall of ten seconds held back");
        assert!(!bucket.take(1, at(5)));
        assert!(bucket.take(100, at(1005)), "it fills at its rate");
        assert!(!bucket.take(100, at(1500)));
        assert!(bucket.take(1000, at(3_600_000)) && !bucket.take(1, at(3_600_000)), "and no higher than a burst");
        assert!(bucket.take(0, at(0)), "time that runs backwards gives nothing");
        let mut none = Bucket::new(0, Duration::from_secs(10));
        assert!((0..9).all(|_| none.take(u64::MAX, at(0))));
    }

    #[test]
    fn rates_are_of_whole_windows() {
        let start = Instant::now();
        let mut meter = Meter::new(Duration::from_secs(2));
        let rates: Vec<Rate> =
            (0..=100).filter_map(|n| meter.add(10, 100, start + Duration::from_millis(n * 40))).collect();
        assert_eq!(rates, [Rate { pixels: 250, bits: 2500 }; 2]);
    }
}
