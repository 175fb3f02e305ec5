//! Pauses between tries: each twice as long as the one before, drawn so that sources which fail together are
//! not all tried again together.

use std::time::Duration;

/// Hands out pauses.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first.min(longest) }
    }

    /// The next pause: between half of its turn and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let turn = self.next;
        self.next = turn.saturating_mul(2).min(self.longest);
        let half = turn / 2;
        half + half.mul_f64(fastrand::f64())
    }

    /// It worked: the next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_begin_again() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, longest);
        for turn in [1, 2, 4, 5, 5] {
            let (pause, turn) = (backoff.next(), Duration::from_secs(turn));
            assert!(pause >= turn / 2 && pause <= turn, "{pause:?} of {turn:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= first);
    }
}
