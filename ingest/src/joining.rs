//! Where a publication's picture begins. A publisher that comes back with a running clock, or a relay that joins a
//! broadcast, may begin in the middle of a group of pictures: what refers to pictures that never came is not stored,
//! for a clip that joined it to what was stored before would show garbage.

use crest_core::codec::Packet;
use crest_core::{MediaTime, StreamId};
use std::time::Duration;

/// Lets the picture of one publication begin at a keyframe.
#[derive(Debug)]
pub(crate) struct Joining {
    /// How much media is dropped in search of a keyframe; a feed that is refreshed bit by bit has none.
    wait: Duration,
    state: State,
    dropped: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// No keyframe came; since when, on the session's timeline.
    Waiting(Option<MediaTime>),
    /// The keyframe is shown then. What is shown before it and decoded after it refers to what came before it, too
    /// (leading pictures; ITU-T H.265 3.1): everything else is decoded after those.
    Begun(MediaTime),
    Joined,
}

impl Joining {
    pub(crate) fn new(wait: Duration) -> Self {
        Self { wait, state: State::Waiting(None), dropped: 0 }
    }

    /// Whether this picture, placed on the session's timeline, is taken. Those that are not are counted.
    pub(crate) fn takes(&mut self, stream: &StreamId, picture: &Packet) -> bool {
        let cause = match self.state {
            State::Joined => return true,
            State::Begun(shown) if !picture.keyframe && picture.pts < shown => "leading",
            State::Begun(_) => {
                self.state = State::Joined;
                return true;
            }
            State::Waiting(_) if picture.keyframe => {
                tracing::debug!(stream_id = %stream, dropped = self.dropped, "the picture begins at a keyframe");
                self.state = State::Begun(picture.pts);
                return true;
            }
            State::Waiting(since) => {
                let since = since.unwrap_or(picture.dts);
                self.state = State::Waiting(Some(since));
                if u128::from((picture.dts - since).nanos().unsigned_abs()) >= self.wait.as_nanos() {
                    tracing::debug!(stream_id = %stream, dropped = self.dropped, "the picture begins without a keyframe");
                    self.state = State::Joined;
                    return true;
                }
                "no_keyframe"
            }
        };
        if self.dropped == 0 {
            tracing::debug!(stream_id = %stream, cause, "the feed begins with pictures that cannot be decoded; they are dropped");
        }
        self.dropped += 1;
        metrics::counter!("crest_feed_pictures_dropped_total", "cause" => cause).increment(1);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these are taken, each at its decoding and presentation time in milliseconds, `true` for keyframes.
    fn taken(pictures: &[(i64, i64, bool)]) -> Vec<i64> {
        let (stream, mut joining) = (StreamId::from_raw("str_a"), Joining::new(Duration::from_secs(12)));
        let taken = pictures.iter().filter(|(dts, pts, keyframe)| {
            let (dts, pts) = (MediaTime::from_millis(*dts), MediaTime::from_millis(*pts));
            joining.takes(&stream, &Packet { pts, dts, keyframe: *keyframe, data: vec![1].into() })
        });
        taken.map(|(dts, ..)| *dts).collect()
    }

    #[test]
    fn the_picture_begins_at_the_first_keyframe() {
        let pictures = [(0, 0, false), (40, 40, false), (80, 80, true), (120, 120, false), (160, 160, false)];
        assert_eq!(taken(&pictures), [80, 120, 160]);
        assert_eq!(taken(&pictures[2..]), [80, 120, 160], "nothing is missing");
    }

    #[test]
    fn pictures_that_lead_the_first_keyframe_are_dropped_and_those_of_later_ones_are_not() {
        let open = [(40, 80, false), (80, 200, true), (120, 120, false), (160, 160, false), (200, 320, false)];
        let rest = [(240, 240, false), (280, 400, true), (320, 360, false)];
        assert_eq!(taken(&[&open[..], &rest[..]].concat()), [80, 200, 240, 280, 320]);
    }

    #[test]
    fn a_feed_without_keyframes_is_taken_after_a_while() {
        let pictures: Vec<_> = (0..400).map(|number| (7000 + number * 40, 7000 + number * 40, false)).collect();
        let taken = taken(&pictures);
        assert_eq!((taken.first(), taken.len()), (Some(&19_000), 100));
    }
}
