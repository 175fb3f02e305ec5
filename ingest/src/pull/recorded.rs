//! What of a live broadcast was left out, by the times at which its pieces were recorded: advertisements, pieces that
//! their server does not have, or that were gone before they could be fetched. Timestamps may not tell.

use crest_core::{MediaTime, WallTime};
use std::ops::RangeInclusive;

/// So much may be missing between two pieces, in milliseconds: those who write their times round them.
const MISSING: RangeInclusive<i64> = 5_000..=3_600_000;
/// By so much, in milliseconds, dates may go back against the media and are not followed: a date that wavers would make
/// a gap each time it comes forward again.
const WAVERS: i64 = 60_000;
/// Steps between two packets of a track, in nanoseconds, that are no other timeline.
const STEPS: RangeInclusive<i64> = -1_000_000_000..=10_000_000_000;

/// Follows both tracks, each with a clock of its own: picture and sound may come from playlists that are not dated alike.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    next: Option<WallTime>,
    clocks: [Option<Clock>; 2],
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    /// When the packet was recorded that is decoded at `from`.
    at: WallTime,
    from: MediaTime,
    /// The latest decoding time.
    latest: MediaTime,
}

impl Recorded {
    /// The packet that comes next was recorded then.
    pub(super) fn begins(&mut self, at: WallTime) {
        self.next = Some(at);
    }

    /// Takes note of a packet of the `picture` or of the sound: how long after the latest of its track it was recorded,
    /// where something is missing between them.
    pub(super) fn left_out(&mut self, picture: bool, dts: MediaTime) -> Option<MediaTime> {
        let clock = &mut self.clocks[usize::from(picture)];
        let before = clock.filter(|clock| self.next.is_some() || STEPS.contains(&(dts - clock.latest).nanos()));
        let Some(at) = self.next.take() else {
            *clock = before.map(|clock| Clock { latest: clock.latest.max(dts), ..clock });
            return None;
        };
        let end = before.map(|before| before.at.plus_millis((before.latest - before.from).nanos() / 1_000_000));
        let missing = end.map_or(0, |end| at.0.saturating_sub(end.0));
        let at = end.filter(|_| (-WAVERS..0).contains(&missing)).unwrap_or(at);
        *clock = Some(Clock { at, from: dts, latest: dts });
        if !MISSING.contains(&missing) {
            return None;
        }
        // The other track has missed as much, and is not to tell it once more.
        self.clocks[usize::from(!picture)] = None;
        Some(MediaTime::from_millis(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of 4 s of both tracks: when they were recorded and where their timestamps begin, in seconds. What was left
    /// out before which, in milliseconds.
    fn left_out(pieces: &[(i64, i64)], sound_dated: i64) -> Vec<(usize, i64)> {
        let mut recorded = Recorded::default();
        let mut found = Vec::new();
        for (number, (at, raw)) in pieces.iter().enumerate() {
            for (picture, dated) in [(true, 0), (false, sound_dated)] {
                recorded.begins(WallTime((at + dated) * 1000));
                for frame in 0..100 {
                    let dts = MediaTime::from_millis(raw * 1000 + frame * 40);
                    found.extend(recorded.left_out(picture, dts).map(|left| (number, left.nanos() / 1_000_000)));
                }
            }
        }
        found
    }

    #[test]
    fn what_is_missing_is_told_once_whatever_the_timestamps_are() {
        assert_eq!(left_out(&[(0, 7), (4, 11), (8, 15)], 0), []);
        for raw in [15, 105, 0] {
            assert_eq!(left_out(&[(0, 7), (4, 11), (98, raw), (102, raw + 4)], 0), [(2, 90_040)], "{raw}");
        }
    }

    #[test]
    fn other_timestamps_and_other_dates_of_the_sound_are_nothing_missing() {
        assert_eq!(left_out(&[(0, 700), (4, 704), (8, 0), (12, 4)], 0), []);
        assert_eq!(left_out(&[(0, 7), (4, 11), (8, 15), (12, 19)], 30), []);
        assert_eq!(left_out(&[(0, 7), (4, 11), (3, 15)], 0), [], "a clock that was put back");
    }

    #[test]
    fn dates_that_waver_make_no_gap_again_and_again() {
        // Dated when they arrived: the uplink stalls for some seconds, and catches up.
        let stalls = (0..20).map(|n| (n * 4 + if n % 4 == 2 { 3 } else { 0 }, n * 4)).collect::<Vec<_>>();
        assert_eq!(left_out(&stalls, 0), []);
        let long = (0..20).map(|n| (n * 4 + if n % 4 == 2 { 9 } else { 0 }, n * 4)).collect::<Vec<_>>();
        assert_eq!(left_out(&long, 0).len(), 1, "once, and not each time");
    }

    #[test]
    fn sound_that_is_dated_seldom_does_not_make_up_a_gap() {
        let mut recorded = Recorded::default();
        let mut deliver = |picture, at: Option<i64>, seconds: i64| {
            at.into_iter().for_each(|at| recorded.begins(WallTime(at * 1000)));
            recorded.left_out(picture, MediaTime::from_millis(seconds * 1000))
        };
        assert_eq!(deliver(false, Some(0), 100), None);
        assert_eq!(deliver(true, None, 100), None);
        // The timestamps begin anew.
        assert_eq!(deliver(true, Some(4), 0), None);
        assert_eq!(deliver(false, None, 0), None);
        assert_eq!(deliver(false, Some(200), 4), None);
    }
}
