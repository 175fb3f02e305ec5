//! Entrances for `fuzz/`: what must hold of a publisher's bytes, whatever they are.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, MediaEvent, Packet, VideoCodec, VideoConfig};
use std::time::Duration;

use crate::pull::playlist::{self, Listing};
use crate::rtmp::flv::{Chosen, TagKind, TagParser};
use crate::timeline::{Timeline, Track, Unwrap};

pub use crate::chat::fuzzing::{irc_lines, youtube_elements, youtube_items};
pub use crate::eventsub::fuzzing::eventsub_messages;
pub use crate::rtmp::fuzzing::{chunks, commands};
pub use crate::whip::fuzzing::frames;
pub use crate::whip::payloads_fuzzing::rtp_payloads;

/// The largest tag body in these runs.
const BODY: usize = 4096;
/// A step ahead by which a timeline may grow at once, a resumed feed's gap aside.
const STEP_AHEAD: i64 = 16_000_000_000;
/// How far presentation may lie behind decoding.
const REORDER: i64 = 5_000_000_000;

/// Tags of one publisher. Each is a byte (bit 0: video; bit 1 of the first one: audio track 1 is taken), a timestamp (4 bytes), a length (2 bytes) and as
/// much of a body as there is.
pub fn tags(mut data: &[u8]) {
    let chosen = data.first().map_or(0, |kind| kind >> 1 & 1);
    let mut parser = TagParser::new(BODY, Chosen { video: 0, audio: chosen });
    let (mut picture, mut sound) = (None, false);
    while let Some((&[kind, t0, t1, t2, t3, l0, l1], rest)) = data.split_first_chunk::<7>() {
        let (body, rest) = rest.split_at(usize::from(u16::from_be_bytes([l0, l1])).min(rest.len()));
        data = rest;
        let body = Bytes::copy_from_slice(body);
        let timestamp = u32::from_be_bytes([t0, t1, t2, t3]);
        let kind = if kind & 1 == 0 { TagKind::Audio } else { TagKind::Video };
        let read = parser.read(kind, timestamp, &body);
        assert!(parser.passed_by().iter().all(|(_, track)| *track != 0 || chosen != 0), "the track that is taken");
        let Ok(events) = read else { continue };
        assert!(body.len() <= BODY, "a body over the limit was read");
        for event in events {
            match (kind, event) {
                (TagKind::Video, MediaEvent::VideoConfig(config)) => {
                    // That of VP9 and VP8 may have come without its version.
                    if !matches!(config.codec, VideoCodec::Vp9 | VideoCodec::Vp8) {
                        inside(&config.record, &body);
                    }
                    picture = Some(config);
                }
                (TagKind::Audio, MediaEvent::AudioConfig(config)) => {
                    match config.codec {
                        AudioCodec::Aac => inside(&config.record, &body),
                        AudioCodec::Opus => assert!(config.record.len() <= body.len()),
                        AudioCodec::Mp3 => assert!(config.record.is_empty()),
                    }
                    assert!((7_350..=96_000).contains(&config.sample_rate) && (1..=255).contains(&config.channels));
                    sound = true;
                }
                (TagKind::Video, MediaEvent::Video(packet)) => {
                    let config = picture.as_ref().unwrap_or_else(|| panic!("a picture before its configuration"));
                    inside(&packet.data, &body);
                    assert!(units_fill(config, &packet.data), "units that do not fill their packet");
                    assert!((packet.pts - packet.dts).nanos().abs() <= (1 << 23) * 1_000_000);
                    assert_eq!(told(packet.dts), timestamp);
                }
                (TagKind::Audio, MediaEvent::Audio(packet)) => {
                    assert!(sound, "sound before its configuration");
                    inside(&packet.data, &body);
                    assert_eq!((told(packet.dts), packet.pts), (timestamp, packet.dts));
                }
                (kind, event) => panic!("{kind:?} became {event:?}"),
            }
        }
    }
}

/// A playlist: what is made of it names addresses that can be asked for, and pieces in order.
pub fn playlist(data: &[u8]) {
    let Ok(base) = reqwest::Url::parse("https://live.example/path/index.m3u8") else { return };
    let Ok(Listing::Media(media)) = playlist::parse(data, &base, 1080, None) else { return };
    assert!(media.target <= Duration::from_secs(3600), "a playlist that is looked at once in {:?}", media.target);
    for pair in media.pieces.windows(2) {
        if let [one, next] = pair {
            assert!(one.sequence < next.sequence, "pieces out of order");
        }
    }
    let last = media.pieces.len().saturating_sub(1);
    for (at, piece) in media.pieces.iter().enumerate() {
        assert!((0.0..=3600.0).contains(&piece.seconds));
        assert!(piece.whole.is_some() || at == last, "a piece without an end that is not the last");
        let begun = piece.whole.is_some() || media.low_latency.is_some_and(|low| low.in_parts && !media.over);
        assert!(begun, "a piece without an end where nothing is taken in parts");
        assert!(piece.parts.iter().all(|part| (0.0..=3600.0).contains(&part.seconds)));
    }
    let timelines = media.pieces.windows(2).all(|pair| matches!(pair, [one, next] if one.timeline <= next.timeline));
    assert!(timelines, "discontinuities that are counted backwards");
}

/// What is handed on is a part of what came in: nothing was allocated for it, unless it is so small a part that it
/// must not keep the whole.
fn inside(part: &Bytes, body: &Bytes) {
    assert!(!part.is_empty(), "nothing was handed on");
    let (at, of) = (part.as_ptr_range(), body.as_ptr_range());
    let small = part.len() < body.len() / 2 && body.windows(part.len()).any(|window| window == part);
    assert!(small || (of.start <= at.start && at.end <= of.end), "not a part of the body");
}

/// The 32-bit timestamp that an extended one stands for.
fn told(time: MediaTime) -> u32 {
    u32::try_from((time.nanos().div_euclid(1_000_000)).rem_euclid(1 << 32)).unwrap_or_default()
}

/// Whether the NAL units of H.264 and H.265 fill their packet; others are looked at elsewhere.
fn units_fill(config: &VideoConfig, mut rest: &[u8]) -> bool {
    let length_size = match config.codec {
        VideoCodec::H264 => config.record.get(4),
        VideoCodec::H265 => config.record.get(21),
        VideoCodec::Av1 | VideoCodec::Vp9 | VideoCodec::Vp8 => return !rest.is_empty(),
    };
    let length_size = length_size.map_or(4, |byte| usize::from(byte & 3) + 1);
    while !rest.is_empty() {
        let mut prefix = [0; 4];
        let Some(length) = rest.get(..length_size) else { return false };
        prefix[4 - length_size..].copy_from_slice(length);
        let end = length_size + usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
        let Some(after) = rest.get(end..) else { return false };
        rest = after;
    }
    true
}

/// Packets of one session, then a clean feed. Each packet is a byte (bit 0: video, bit 1: the feed was away
/// before it), a timestamp and a composition offset (4 bytes each, in milliseconds).
pub fn timeline(data: &[u8]) {
    let mut run = Run::default();
    let mut last = 0;
    for record in data.as_chunks::<9>().0 {
        let &[flags, t0, t1, t2, t3, c0, c1, c2, c3] = record;
        last = u32::from_be_bytes([t0, t1, t2, t3]);
        let composition = i32::from_be_bytes([c0, c1, c2, c3]);
        let track = if flags & 1 == 1 { Track::Video } else { Track::Audio };
        let dts = run.unwrap.extend(last);
        if flags & 2 == 2 {
            run.away(dts);
        }
        run.place(track, dts, dts + MediaTime::from_millis(i64::from(composition)));
    }
    run.settles(last);
}

#[derive(Default)]
struct Run {
    unwrap: Unwrap,
    timeline: Timeline,
    /// The latest decoding time of sound and picture.
    last: [Option<i64>; 2],
    /// How far the timeline may have come.
    limit: i64,
}

impl Run {
    /// The feed was away and comes back, as `Feed` decides it.
    fn away(&mut self, first: MediaTime) {
        let within = Duration::from_secs(60);
        if self.timeline.continues(Track::Video, first, within) {
            self.timeline.resume(first);
            self.limit += 60_000_000_000;
        }
    }

    /// Places a packet and returns how far it was moved.
    fn place(&mut self, track: Track, dts: MediaTime, pts: MediaTime) -> i64 {
        let packet = Packet { pts, dts, keyframe: false, data: Bytes::new() };
        let placed = self.timeline.place(track, packet);
        let at = placed.dts.nanos();
        let last = &mut self.last[usize::from(track == Track::Video)];
        assert!(last.is_none_or(|last| at > last), "decoding times rise");
        assert!((0..=self.limit.saturating_add(STEP_AHEAD)).contains(&at), "the timeline jumped to {at}");
        assert!((0..=REORDER).contains(&(placed.pts - placed.dts).nanos()), "presentation follows decoding");
        assert!(self.timeline.end() > placed.pts, "the end lies behind every packet");
        *last = Some(at);
        self.limit = self.limit.max(at);
        at - dts.nanos()
    }

    /// After whatever came before, a minute of a clean feed ends with sound and picture moved alike, and
    /// no slower or faster than they came.
    fn settles(&mut self, from: u32) {
        let mut moved = [0; 2];
        let mut before = [0; 2];
        for frame in 0..750_u32 {
            for (track, index) in [(Track::Audio, 0), (Track::Video, 1)] {
                let at = self.unwrap.extend(from.wrapping_add(frame * 80));
                before[index] = moved[index];
                moved[index] = self.place(track, at, at);
            }
        }
        assert_eq!(moved[0], moved[1], "sound and picture have drifted apart");
        assert_eq!(moved, before, "the feed does not run at its own speed");
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
pub(crate) mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn kept_inputs_pass() {
        replay("rtmp_chunks", super::chunks);
        replay("rtmp_commands", super::commands);
        replay("flv_tags", super::tags);
        replay("playlist", super::playlist);
        replay("timeline", super::timeline);
        replay("irc_lines", super::irc_lines);
        replay("youtube_items", super::youtube_items);
        replay("youtube_elements", super::youtube_elements);
        replay("eventsub_messages", super::eventsub_messages);
        replay("whip_frames", super::frames);
        replay("rtp_payloads", super::rtp_payloads);
    }
}
