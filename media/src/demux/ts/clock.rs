//! Times of 33 bits at 90 kHz -> a timeline that does not wrap.

use crest_core::MediaTime;

const PERIOD: i64 = 1 << 33;
/// How far the timeline may run from where it began: half a century. Only garbage gets there.
const FAR: i64 = PERIOD << 14;

/// The clock that all tracks of a program share: each time is the one nearest to the time before it.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Option<i64>,
}

impl Clock {
    /// Where a time of 33 bits lies.
    pub(super) fn place(&mut self, ticks: u64) -> MediaTime {
        let ticks = (ticks % PERIOD as u64) as i64;
        let last = self.last.filter(|last| last.abs() < FAR).unwrap_or(ticks);
        let ahead = (ticks - last).rem_euclid(PERIOD);
        let step = if ahead >= PERIOD / 2 { ahead - PERIOD } else { ahead };
        let placed = last + step;
        self.last = Some(placed);
        MediaTime::from_nanos((i128::from(placed) * 100_000 / 9) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_goes_on() {
        let mut clock = Clock::default();
        let before = clock.place((1 << 33) - 90_000);
        assert_eq!((clock.place(90_000) - before).nanos(), 2_000_000_000);
        // A picture from before the wrap that comes late.
        assert_eq!((clock.place((1 << 33) - 45_000) - before).nanos(), 500_000_000);
        assert_eq!((clock.place(0) - before).nanos(), 1_000_000_000);
    }

    #[test]
    fn jumps_stay_within_reach() {
        let mut clock = Clock::default();
        for at in 0..2_000_000_u64 {
            let placed = clock.place(at.wrapping_mul((1 << 32) - 1));
            assert!(placed.nanos().abs() < i64::MAX / 2);
        }
    }
}
