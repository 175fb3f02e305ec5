//! How fast media goes in that can be had faster than it plays: a recording, or a live segment that arrived
//! whole. Feeds have rings that drop what is too much at once.

use crest_core::MediaTime;
use std::time::Duration;
use tokio::time::Instant;

/// A step of this much between two packets is no pause in the media, but another timeline.
const JUMP: Duration = Duration::from_secs(10);
/// Being behind by this much, the rest is not hurried.
const LATE: Duration = Duration::from_secs(1);

/// Holds media back that is ahead of its time.
#[derive(Debug)]
pub(super) struct Pace {
    speed: f64,
    /// Media time, and when it was due.
    base: Option<(MediaTime, Instant)>,
    last: MediaTime,
}

impl Pace {
    /// At `speed` times the speed at which it plays.
    pub(super) fn new(speed: f64) -> Self {
        Self { speed: speed.max(0.01), base: None, last: MediaTime::ZERO }
    }

    /// When a packet that is decoded at `dts` may go in.
    pub(super) fn due(&mut self, dts: MediaTime, now: Instant) -> Instant {
        let step = Duration::from_nanos((dts - self.last).nanos().unsigned_abs());
        // The track that lies behind in the bytes is not late.
        let behind = dts < self.last && step < JUMP;
        if !behind {
            self.last = dts;
        }
        let base = self.base.filter(|_| step < JUMP);
        let due = base.map(|(from, at)| {
            let ahead = u64::try_from((dts - from).nanos()).unwrap_or(0);
            at + Duration::from_nanos(ahead).div_f64(self.speed)
        });
        match due {
            Some(due) if behind || now < due + LATE => due,
            _ => {
                self.base = Some((dts, now));
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_goes_in_at_its_speed_and_is_not_hurried_after_a_delay() {
        let (mut pace, start) = (Pace::new(2.0), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        let at = |millis: i64| MediaTime::from_millis(5_000_000 + millis);
        assert_eq!(pace.due(at(0), start), start);
        assert_eq!(pace.due(at(1000), start), after(500));
        assert_eq!(pace.due(at(980), after(500)), after(490), "sound beside the picture");
        assert_eq!(pace.due(at(2000), after(900)), after(1000));
        assert_eq!(pace.due(at(3000), after(4000)), after(4000), "it was late");
        assert_eq!(pace.due(at(4000), after(4000)), after(4500));
        assert_eq!(pace.due(MediaTime::ZERO, after(4600)), after(4600), "another timeline");
        assert_eq!(pace.due(MediaTime::from_millis(100), after(4600)), after(4650));
    }

    #[test]
    fn a_track_that_lies_far_behind_in_the_bytes_does_not_slow_the_other_down() {
        let (mut pace, start) = (Pace::new(1.0), Instant::now());
        let mut now = start;
        for second in 0..60 {
            for at in [second * 1000 + 3000, second * 1000] {
                now = now.max(pace.due(MediaTime::from_millis(at), now));
            }
        }
        assert!(now <= start + Duration::from_secs(60), "{:?}", now - start);
    }
}
