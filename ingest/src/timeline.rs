//! A publisher's timestamps -> the session's timeline. One offset serves both tracks, so that a
//! correction never moves sound against picture.

use crest_core::MediaTime;
use crest_core::codec::Packet;
use std::time::Duration;

/// A step further ahead is a jump, not a gap: longer than a connection may be silent.
const FORWARD: i64 = 15_000_000_000;
/// A step further back is a jump; a smaller one is jitter.
const BACK: i64 = 1_000_000_000;
/// How far behind the other track a track may be that was away, or that starts late.
const BEHIND: i64 = 15_000_000_000;
/// How far one track may be ahead of the other in what arrives.
const INTERLEAVED: i64 = 1_000_000_000;
/// How far what a source says of the time that it left out may lie from what its timestamps say.
const ABOUT: i64 = 2_000_000_000;
/// The smallest step between two packets of a track: representable in any container's timescale.
const STEP: i64 = 1_000_000;
/// The longest time between decoding and presentation that is believed.
const REORDER: i64 = 5_000_000_000;

/// Which of a feed's two tracks a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    last: Option<i64>,
    frame: i64,
}

/// Places packets on a session's timeline: from 0, decoding times strictly rising per track,
/// presentation never before decoding, jumps closed up.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// Timeline = publisher's time + offset.
    offset: Option<i64>,
    /// The offset before the last jump, for the packets of the other track that are still on it, and where
    /// the head was then: once a track that is behind must have followed, it is forgotten. Else each track
    /// could stay on an offset of its own for good.
    previous: Option<(i64, i64)>,
    video: Progress,
    audio: Progress,
    /// The latest decoding time placed.
    head: i64,
    /// The latest end of a packet placed.
    end: i64,
    /// How long after the head the next packet comes, where something was left out.
    left_out: Option<i64>,
    rebased: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            offset: None,
            previous: None,
            video: Progress { last: None, frame: 33_000_000 },
            audio: Progress { last: None, frame: 21_000_000 },
            head: 0,
            end: 0,
            left_out: None,
            rebased: 0,
        }
    }
}

impl Timeline {
    /// Places a packet that carries the publisher's times; the first of all lands on 0.
    pub fn place(&mut self, track: Track, mut packet: Packet) -> Packet {
        let raw = packet.dts.nanos();
        let delay = packet.pts.nanos().saturating_sub(raw).clamp(0, REORDER);
        let offset = self.offset_for(track, raw);
        let progress = self.progress(track);
        let floor = progress.last.map_or(0, |last| last.saturating_add(STEP));
        let wanted = raw.saturating_add(offset);
        let dts = wanted.max(floor);
        let pts = wanted.saturating_add(delay).max(dts);
        if let Some(last) = progress.last {
            let step = dts.saturating_sub(last);
            if (STEP..BACK).contains(&step) {
                progress.frame = step;
            }
        }
        progress.last = Some(dts);
        let end = pts.saturating_add(progress.frame);
        self.head = self.head.max(dts);
        self.end = self.end.max(end);
        packet.dts = MediaTime::from_nanos(dts);
        packet.pts = MediaTime::from_nanos(pts);
        packet
    }

    /// Whether a feed that comes back with `first` as the first decoding time of `track` goes on where this
    /// timeline stands: behind that track, not far before the other, which may have been ahead, and at most
    /// `within` after.
    pub fn continues(&self, track: Track, first: MediaTime, within: Duration) -> bool {
        let Some(offset) = self.offset else { return false };
        let at = first.nanos().saturating_add(offset);
        let own = match track {
            Track::Video => self.video.last,
            Track::Audio => self.audio.last,
        };
        let ahead = at.saturating_sub(self.head);
        own.is_none_or(|own| at >= own) && ahead >= -INTERLEAVED && i128::from(ahead) <= within.as_nanos().cast_signed()
    }

    /// Accepts the gap before `first`, however long: the feed was away and [`Self::continues`].
    pub fn resume(&mut self, first: MediaTime) {
        self.left_out = None;
        if let Some(offset) = self.offset {
            self.head = self.head.max(first.nanos().saturating_add(offset));
        }
    }

    /// The next packet comes so long after the head: what lies between was left out, and stays a gap.
    pub fn leave_out(&mut self, after: MediaTime) {
        self.left_out = Some(after.nanos().max(0));
    }

    /// The end of the last packet placed.
    pub fn end(&self) -> MediaTime {
        MediaTime::from_nanos(self.end)
    }

    /// How many jumps were closed up so far.
    pub fn rebased(&self) -> u64 {
        self.rebased
    }

    fn progress(&mut self, track: Track) -> &mut Progress {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }

    fn offset_for(&mut self, track: Track, raw: i64) -> i64 {
        let Some(offset) = self.offset else {
            let offset = raw.saturating_neg();
            self.offset = Some(offset);
            return offset;
        };
        if let Some(after) = self.left_out.take() {
            let at = self.head.saturating_add(after);
            let said = raw.saturating_add(offset);
            if said.abs_diff(at) <= ABOUT.unsigned_abs() {
                self.head = self.head.max(said);
                return offset;
            }
            return self.rebase(at, raw);
        }
        let head = self.head;
        let progress = *self.progress(track);
        let own = progress.last.unwrap_or(head.saturating_sub(BEHIND)).max(head.saturating_sub(BEHIND));
        let low = own.min(head).saturating_sub(BACK);
        let at = raw.saturating_add(offset);
        if (low..=head.saturating_add(FORWARD)).contains(&at) {
            return offset;
        }
        if let Some((previous, since)) = self.previous
            && head.saturating_sub(since) <= BEHIND
        {
            let at = raw.saturating_add(previous);
            if (low..=head.saturating_add(BACK)).contains(&at) {
                return previous;
            }
        }
        self.rebase(head.saturating_add(progress.frame), raw)
    }

    /// What the publisher calls `raw` lies at `at` from here on.
    fn rebase(&mut self, at: i64, raw: i64) -> i64 {
        let rebased = at.saturating_sub(raw);
        self.previous = self.offset.map(|offset| (offset, self.head));
        self.offset = Some(rebased);
        self.head = self.head.max(at);
        self.rebased += 1;
        rebased
    }
}

/// Extends 32-bit millisecond timestamps, which wrap every 49.7 days, to times that do not.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unwrap {
    last: Option<(u32, i64)>,
}

impl Unwrap {
    /// The extended time; steps of up to 24.8 days in either direction are told apart.
    pub fn extend(&mut self, millis: u32) -> MediaTime {
        let extended = match self.last {
            None => i64::from(millis),
            Some((last, at)) => at.saturating_add(i64::from(millis.wrapping_sub(last).cast_signed())),
        };
        self.last = Some((millis, extended));
        MediaTime::from_millis(extended)
    }
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "timeline_faults_tests.rs"]
mod faults;
