//! RTP timestamps of both tracks -> one timeline. Each track has a clock of its own, with a random start; what
//! they have in common is the wall clock of the sender reports (RFC 3550, 6.4.1). Before the first reports, what
//! arrives together belongs together.

use crest_core::MediaTime;
use std::time::{Duration, Instant};

use crate::timeline::Track;

/// A clock that is put right runs faster or slower by one part in so many: time never stands still or goes back.
const SLEW: i64 = 20;
/// A report that differs more than this from what was known is a wall clock that was set.
const BELIEVED: i64 = 2_000_000_000;
/// A timestamp this far from when it arrived belongs to a clock that began anew.
const RESTART: i64 = 10_000_000_000;

/// What a sender report says: an RTP time and the wall clock's at the same instant, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// RTP time, extended and in nanoseconds.
    pub(super) rtp: i64,
    /// The sender's wall clock.
    pub(super) wall: i64,
}

/// The clock of one track: timeline = RTP time + offset.
#[derive(Debug, Default)]
struct Rate {
    offset: Option<i64>,
    /// What the reports say the offset should be.
    wanted: i64,
    last: i64,
    /// RTP time and arrival of what came before.
    before: Option<(i64, i64)>,
    report: Option<Report>,
}

/// The clock of a session.
#[derive(Debug)]
pub(super) struct Clock {
    epoch: Instant,
    /// Timeline = wall clock - this, from the first report on.
    wall_start: Option<i64>,
    video: Rate,
    audio: Rate,
}

impl Clock {
    /// A timeline that begins at `epoch`.
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, wall_start: None, video: Rate::default(), audio: Rate::default() }
    }

    /// Places what carries this RTP time, in nanoseconds and extended past 32 bits.
    pub(super) fn place(&mut self, track: Track, rtp: i64, arrival: Instant, report: Option<Report>) -> MediaTime {
        let arrived = nanos(arrival.saturating_duration_since(self.epoch));
        let rate = match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        // Steps are compared, and not times: the sender's clock and this one drift apart by seconds in days.
        let steady = rate.before.is_none_or(|(before, came)| {
            rtp.saturating_sub(before).abs_diff(arrived.saturating_sub(came)) <= RESTART as u64
        });
        rate.before = Some((rtp, arrived));
        let known = rate.offset.filter(|_| steady);
        let mut offset = known.unwrap_or_else(|| {
            // Reports of the clock before say nothing of this one.
            rate.wanted = arrived.saturating_sub(rtp);
            rate.last = rtp;
            rate.report = report.filter(|_| rate.offset.is_some());
            rate.wanted
        });
        if let Some(report) = report.filter(|report| rate.report != Some(*report)) {
            rate.report = Some(report);
            let at = report.rtp.saturating_add(offset);
            let start = *self.wall_start.get_or_insert(report.wall.saturating_sub(at));
            let wanted = report.wall.saturating_sub(start).saturating_sub(report.rtp);
            if wanted.abs_diff(offset) <= BELIEVED as u64 {
                rate.wanted = wanted;
            } else {
                self.wall_start = Some(report.wall.saturating_sub(at));
            }
        }
        let most = rtp.saturating_sub(rate.last).max(0) / SLEW;
        offset = offset.saturating_add(rate.wanted.saturating_sub(offset).clamp(-most, most));
        rate.offset = Some(offset);
        rate.last = rate.last.max(rtp);
        MediaTime::from_nanos(rtp.saturating_add(offset))
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// Plays both tracks for `seconds`; picture arrives `late` ms after sound. Gives the distance of picture and
    /// sound of the same instant at each second, in ms.
    fn skew(clock: &mut Clock, epoch: Instant, seconds: i64, late: i64, wall: impl Fn(i64) -> i64) -> Vec<i64> {
        let (audio_start, video_start) = (7_000_000 * MS, 90_000 * MS);
        let mut skews = Vec::new();
        for second in 0..seconds {
            let mut at = [0; 2];
            for step in 0..50 {
                let t = second * 1000 + step * 20;
                let reported = |start: i64, from: i64| {
                    let last = (t - from).div_euclid(1000) * 1000 + from;
                    (last >= from && from > 0).then(|| Report { rtp: start + last * MS, wall: wall(last) * MS })
                };
                let arrival = |late: i64| epoch + Duration::from_millis((t + late) as u64);
                let sound = clock.place(Track::Audio, audio_start + t * MS, arrival(0), reported(audio_start, 1300));
                let picture =
                    clock.place(Track::Video, video_start + t * MS, arrival(late), reported(video_start, 500));
                at = [sound.nanos(), picture.nanos()];
            }
            skews.push((at[1] - at[0]) / MS);
        }
        skews
    }

    #[test]
    fn reports_put_picture_and_sound_together() {
        let epoch = Instant::now();
        let skews = skew(&mut Clock::new(epoch), epoch, 10, 80, |t| 1_700_000_000_000 + t);
        assert_eq!(skews[0], 80, "before the reports, arrival counts");
        assert_eq!(skews[9], 0, "{skews:?}");
        assert!(skews.windows(2).all(|two| two[1] <= two[0]), "{skews:?}");
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_nothing() {
        let epoch = Instant::now();
        let wall = |t: i64| if t < 5000 { t } else { t + 3_600_000 };
        let skews = skew(&mut Clock::new(epoch), epoch, 20, 0, wall);
        assert!(skews.iter().all(|skew| skew.abs() <= 1), "{skews:?}");
    }

    #[test]
    fn time_never_goes_back_while_it_is_put_right() {
        let epoch = Instant::now();
        let mut clock = Clock::new(epoch);
        clock.place(Track::Audio, 0, epoch, Some(Report { rtp: 0, wall: 0 }));
        let mut last = i64::MIN;
        for frame in 0..300 {
            let rtp = frame * 33 * MS;
            let arrival = epoch + Duration::from_millis(400 + frame as u64 * 33);
            let at = clock.place(Track::Video, rtp, arrival, Some(Report { rtp: 0, wall: 0 })).nanos();
            assert!(at > last);
            last = at;
        }
        assert_eq!(last, 299 * 33 * MS, "put right in the end");
    }

    #[test]
    fn a_clock_that_begins_anew_goes_on_where_it_arrives() {
        let epoch = Instant::now();
        let mut clock = Clock::new(epoch);
        let before = clock.place(Track::Video, 500_000 * MS, epoch, Some(Report { rtp: 500_000 * MS, wall: 9 }));
        let stale = Some(Report { rtp: 500_000 * MS, wall: 9 });
        let after = clock.place(Track::Video, 3 * MS, epoch + Duration::from_millis(40), stale);
        assert_eq!((after - before).nanos(), 40 * MS);
    }
}
