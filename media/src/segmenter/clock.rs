//! A track's own clock: session time -> ticks that never run backwards.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::Packet;

use crate::mp4::fragment::Sample;
use crate::mp4::track::{Timing, VIDEO_TIMESCALE, ticks, time};

/// Timestamps that stray less than this from the regular grid of audio frames are put onto it: RTMP rounds to
/// milliseconds.
const GRID_MILLIS: i64 = 3;

/// Ticks that no feed reaches; sums of a few of them still fit.
const FURTHEST: i64 = i64::MAX / 8;

/// A packet on its track's clock.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// Presentation time as the feed said it.
    pub at: MediaTime,
    dts: i64,
    pts: i64,
    pub keyframe: bool,
    pub data: Bytes,
    /// How many ticks it lasts, where it says so itself.
    length: Option<u32>,
}

/// Turns packets into samples, for one track of a session.
#[derive(Debug)]
pub(super) struct Clock {
    timescale: u32,
    /// Ticks of a sample whose successor is not known: what the one before lasted.
    nominal: u32,
    /// Whether samples follow each other at their own lengths.
    grid: bool,
    /// Added to decoding times: files cannot say that one lies before the session's start.
    shift: Option<i64>,
    last: Option<i64>,
}

impl Clock {
    pub(super) fn video() -> Self {
        Self { timescale: VIDEO_TIMESCALE, nominal: VIDEO_TIMESCALE / 30, grid: false, shift: None, last: None }
    }

    pub(super) fn audio(timescale: u32) -> Self {
        Self { timescale, nominal: timescale / 50, grid: true, shift: None, last: None }
    }

    /// Places the next packet; `length` is how many ticks it lasts, where that is known.
    pub(super) fn take(&mut self, packet: &Packet, length: Option<u32>) -> Pending {
        let mut pts = ticks(packet.pts, self.timescale).clamp(-FURTHEST, FURTHEST);
        let mut dts = ticks(packet.dts, self.timescale).clamp(-FURTHEST, FURTHEST);
        if self.grid {
            let tolerance = GRID_MILLIS * i64::from(self.timescale) / 1000;
            let expected = self.last.map(|last| last + i64::from(self.nominal) - self.shift.unwrap_or(0));
            if let Some(expected) = expected.filter(|e| (pts - e).abs() <= tolerance) {
                pts = expected;
            }
            dts = pts;
        }
        let shift = *self.shift.get_or_insert(0.max(-dts));
        dts += shift;
        if let Some(last) = self.last {
            dts = dts.max(last + 1);
        }
        dts = dts.max(0);
        self.last = Some(dts);
        self.nominal = length.unwrap_or(self.nominal);
        // A file has 32 bits for how far presentation lies from decoding: six hours.
        pts = pts.clamp(dts + i64::from(i32::MIN), dts + i64::from(i32::MAX));
        Pending { at: packet.pts, dts, pts, keyframe: packet.keyframe, data: packet.data.clone(), length }
    }

    /// Samples with their durations; `next` is what follows the last one, where that is known.
    pub(super) fn samples(&mut self, pending: &[Pending], next: Option<&Pending>) -> Vec<Sample> {
        let second = i64::from(self.timescale);
        let mut out = Vec::with_capacity(pending.len());
        for (i, packet) in pending.iter().enumerate() {
            let within = pending.get(i + 1).map(|following| following.dts - packet.dts);
            let step = within.or_else(|| next.map(|n| n.dts - packet.dts).filter(|step| *step <= second));
            let duration = step.and_then(|step| u32::try_from(step).ok()).filter(|step| *step > 0);
            let duration = duration.or(packet.length).unwrap_or(self.nominal);
            if !self.grid && i64::from(duration) <= second {
                self.nominal = duration;
            }
            let timing = Timing { dts: packet.dts, pts: packet.pts, duration, keyframe: packet.keyframe };
            out.push(Sample { timing, data: packet.data.clone() });
        }
        out
    }

    /// When each of `pending` is over.
    pub(super) fn ends<'a>(
        &self,
        pending: &'a [Pending],
        samples: &'a [Sample],
    ) -> impl Iterator<Item = MediaTime> + 'a {
        let timescale = self.timescale;
        pending.iter().zip(samples).map(move |(p, s)| p.at + time(i64::from(s.timing.duration), timescale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RTMP's milliseconds of the packets before `end` that follow each other every `1/rate` seconds of `units`,
    /// with their true times in nanoseconds.
    fn packets(units: i64, rate: i64, end_s: i64) -> impl Iterator<Item = (i64, Packet)> {
        (0..end_s * rate / units).map(move |n| {
            let real = i64::try_from(i128::from(n * units) * 1_000_000_000 / i128::from(rate)).unwrap_or(i64::MAX);
            let at = MediaTime::from_millis((real + 500_000) / 1_000_000);
            (real, Packet { pts: at, dts: at, keyframe: true, data: Bytes::new() })
        })
    }

    #[test]
    fn eight_hours_of_rounded_times_leave_sound_and_picture_together() {
        const LIMIT: i64 = 10_000_000;
        for (units, rate, mut clock, scale) in [
            (1001, 30_000, Clock::video(), VIDEO_TIMESCALE),
            (1024, 44_100, Clock::audio(44_100), 44_100),
            (1024, 48_000, Clock::audio(48_000), 48_000),
        ] {
            let mut last = -1;
            for (real, packet) in packets(units, rate, 8 * 3600) {
                let placed = clock.take(&packet, (units == 1024).then_some(1024));
                assert!(placed.dts > last && placed.pts >= placed.dts, "{real}");
                last = placed.dts;
                let off = time(placed.pts, scale).nanos() - real;
                assert!(off.abs() <= LIMIT, "{off} ns off after {real} at {rate}");
            }
        }
    }
}
