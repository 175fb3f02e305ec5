//! Pauses between attempts: each about double the one before, with jitter, so that what lost the same peer does not
//! come back to it at the same instant.

use std::time::Duration;

/// The pauses of one row of failures.
#[derive(Debug)]
pub(crate) struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    /// None is longer than `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first.min(longest) }
    }

    /// The first is a second.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self::new(Duration::from_secs(1), longest)
    }

    /// The next pause: between a half and the whole of its turn.
    pub(crate) fn next(&mut self) -> Duration {
        let turn = self.next;
        self.next = turn.saturating_mul(2).min(self.longest);
        turn.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// It worked: the next row begins anew.
    pub(crate) fn reset(&mut self) {
        self.next = self.first.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(5));
        let mut pause = Pause::new(first, longest);
        for turn in [1, 2, 4, 5, 5] {
            let (next, turn) = (pause.next(), Duration::from_secs(turn));
            assert!(next >= turn / 2 && next <= turn, "{next:?} of {turn:?}");
        }
        pause.reset();
        assert!(pause.next() <= first);
        assert!(Pause::up_to(Duration::from_millis(10)).next() <= Duration::from_millis(10));
    }
}
