//! When frames are decoded of which it is only known when they are presented, and that they come in the order in which
//! they are decoded.

use crest_core::MediaTime;
use std::collections::VecDeque;

/// Frames that may be decoded before one that is presented earlier: H.264 and H.265 allow no more.
const DEEPEST: usize = 16;
/// A step back of this much is another timeline.
const JUMP: i64 = 1_000_000_000;
/// The step between two frames whose times are not known yet.
const STEP: i64 = 1_000_000;

/// Where encoders reorder frames by up to `depth`, the frame that comes as the n-th is decoded when the (n - depth)-th of
/// all is presented: none is decoded after it is presented, and the times rise. The depth is that of the frames so far:
/// how many came before one that is presented earlier. Until it is seen, frames are decoded late.
#[derive(Debug, Default)]
pub(super) struct DecodingOrder {
    depth: usize,
    /// When the latest frames are presented, as they came.
    recent: VecDeque<i64>,
    /// Presentation times that no frame is decoded at yet, in order; at most `depth`.
    waiting: Vec<i64>,
    last: Option<i64>,
}

impl DecodingOrder {
    /// When the next frame is decoded, which is presented at `pts`.
    pub(super) fn decoded_at(&mut self, pts: MediaTime) -> MediaTime {
        let pts = pts.nanos();
        if self.last.is_some_and(|last| pts < last.saturating_sub(JUMP)) {
            self.recent.clear();
            self.waiting.clear();
            self.last = None;
        }
        self.depth = self.depth.max(self.recent.iter().filter(|other| **other > pts).count());
        self.recent.truncate(DEEPEST - 1);
        self.recent.push_front(pts);
        let at = self.waiting.partition_point(|waiting| *waiting <= pts);
        self.waiting.insert(at, pts);
        let dts = if self.waiting.len() > self.depth {
            let earliest = self.waiting.remove(0);
            self.last.map_or(earliest, |last| earliest.max(last.saturating_add(STEP)))
        } else {
            // The depth has just grown: nothing is due.
            self.last.map_or(pts, |last| last.saturating_add(STEP))
        };
        self.last = Some(dts);
        MediaTime::from_nanos(dts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Presented and decoded, in milliseconds.
    fn decoded(presented: impl IntoIterator<Item = i64>) -> Vec<(i64, i64)> {
        let mut order = DecodingOrder::default();
        let at = |pts: i64| (pts, order.decoded_at(MediaTime::from_millis(pts)).nanos() / 1_000_000);
        presented.into_iter().map(at).collect()
    }

    #[test]
    fn frames_in_their_order_are_decoded_when_they_are_presented() {
        assert!(decoded((0..100).map(|n| n * 40)).iter().all(|(pts, dts)| pts == dts));
    }

    #[test]
    fn reordered_frames_are_decoded_before_they_are_presented_as_soon_as_the_depth_is_seen() {
        // A frame ahead, with one, two and (a pyramid) three between; seconds of it.
        for (pattern, least) in [(&[80, 40][..], 80), (&[120, 40, 80], 120), (&[160, 80, 40, 120], 200)] {
            let group = 40 * pattern.len() as i64;
            let frames = (0..50).flat_map(|n| pattern.iter().map(move |pts| n * group + pts));
            let frames = decoded(std::iter::once(0).chain(frames));
            assert!(frames.windows(2).all(|two| two[0].1 < two[1].1), "{pattern:?}: times rise");
            let late: Vec<_> = frames.iter().filter(|(pts, dts)| dts > pts).collect();
            assert!(late.len() <= 6 && late.iter().all(|(pts, _)| *pts < 500), "{pattern:?}: {late:?}");
            let deep = frames.iter().skip(20).map(|(pts, dts)| pts - dts).max();
            assert_eq!(deep, Some(least), "{pattern:?}: no earlier than need be");
        }
    }

    #[test]
    fn a_clock_that_begins_anew_is_followed() {
        let frames = decoded([10_000, 10_040, 10_080, 0, 40, 80]);
        assert_eq!(frames[3..], [(0, 0), (40, 40), (80, 80)]);
    }
}
