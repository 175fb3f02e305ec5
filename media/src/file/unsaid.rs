//! Presentation times that a container leaves out. A transport stream need not say one for each picture (H.222.0,
//! 2.7.4), and with B-frames the time of decoding is no substitute: pictures would be shown out of order.
//!
//! Nothing that is decoded later is presented earlier than it is decoded. So once decoding has passed a place on the
//! grid of frames that nobody has claimed, it is that of the first picture, in the order of decoding, that says none.

use crest_core::MediaTime;
use crest_core::codec::{MediaEvent, Packet};
use std::collections::VecDeque;

/// Pictures that wait for one that says no time: H.264 lets no more come in between.
const LONGEST: usize = 17;
/// Presentation times that are remembered.
const KNOWN: usize = 2 * LONGEST;
/// A step that is no gap to be filled, but another place on the timeline, in nanoseconds.
const JUMP: i64 = 1_000_000_000;

/// A picture, behind its configuration where that is new.
type Picture = (Option<MediaEvent>, Packet);

/// Pictures on their way, in the order of decoding.
#[derive(Debug, Default)]
pub(super) struct Unsaid {
    /// Presentation times of the latest pictures in nanoseconds, the smallest first.
    known: Vec<i64>,
    /// From the first picture on whose time is not known; whether each says its own.
    held: VecDeque<(Picture, bool)>,
}

impl Unsaid {
    /// Takes the next picture, whose `pts` counts if it is `said`, and returns those whose times are known.
    pub(super) fn push(&mut self, config: Option<MediaEvent>, packet: Packet, said: bool) -> Vec<Picture> {
        if said {
            self.claim(packet.pts.nanos());
            if self.held.is_empty() {
                return vec![(config, packet)];
            }
        }
        let decoded = packet.dts.nanos();
        self.held.push_back(((config, packet), said));
        self.release(Some(decoded))
    }

    /// What is held back.
    pub(super) fn finish(&mut self) -> Vec<Picture> {
        self.release(None)
    }

    /// Hands out what is known now that decoding has come to `decoded`, or to the end.
    fn release(&mut self, decoded: Option<i64>) -> Vec<Picture> {
        let mut out = Vec::new();
        while let Some(((_, packet), said)) = self.held.front() {
            let mut pts = packet.pts;
            if !said {
                let own = packet.dts.nanos();
                let Some(found) = self.unclaimed(own, decoded).or_else(|| self.hopeless(decoded).then_some(own)) else {
                    break;
                };
                self.claim(found);
                pts = MediaTime::from_nanos(found);
            }
            out.extend(self.held.pop_front().map(|((config, packet), _)| (config, Packet { pts, ..packet })));
        }
        out
    }

    fn hopeless(&self, decoded: Option<i64>) -> bool {
        decoded.is_none() || self.held.len() > LONGEST
    }

    /// The first place from `own` on that nobody claims and nobody can claim any more.
    fn unclaimed(&self, own: i64, decoded: Option<i64>) -> Option<i64> {
        let frame = self.known.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).filter(|step| *step > 0).min()?;
        let ends = self.known.iter().skip(1).copied().chain([i64::MAX]);
        for (begin, end) in self.known.iter().zip(ends) {
            let before = own.saturating_sub(frame / 2).saturating_sub(begin.saturating_add(frame)).max(0);
            let steps = 1 + before.div_euclid(frame) + i64::from(before % frame > 0);
            let place = begin.saturating_add(frame.saturating_mul(steps));
            let passed = decoded.is_none_or(|decoded| place.saturating_add(frame / 2) < decoded);
            if place < end.saturating_sub(frame / 2) {
                return passed.then_some(place);
            }
        }
        None
    }

    fn claim(&mut self, pts: i64) {
        let (first, last) = (self.known.first().copied(), self.known.last().copied());
        let jumped = first.is_some_and(|first| pts < first.saturating_sub(JUMP))
            || last.is_some_and(|last| pts > last.saturating_add(JUMP));
        if jumped {
            self.known.clear();
        }
        let at = self.known.partition_point(|known| *known < pts);
        self.known.insert(at, pts);
        if self.known.len() > KNOWN {
            self.known.remove(0);
        }
    }
}
