//! Pauses between attempts: each about double the one before, with jitter, so that many processes that lost
//! the same peer do not come back at the same instant.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);

/// The pauses of one row of failures.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    /// None is longer than `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self { next: FIRST.min(longest), longest }
    }

    /// The next pause: between a half and the whole of what it is now.
    pub(super) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.longest);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// It worked: the next row begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew() {
        let mut pause = Pause::new(Duration::from_secs(5));
        for whole in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let next = pause.next().as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&next), "{next} of {whole}");
        }
        pause.reset();
        assert!(pause.next() <= FIRST);
    }
}
