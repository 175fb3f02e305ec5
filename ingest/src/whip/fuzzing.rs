//! Entrance for `fuzz/`: what must hold of a WebRTC publisher's frames, whatever is in them.

use crest_core::codec::{MediaEvent, VideoCodec};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tracks::{Frame, FrameCodec, Tracks};

/// Frames of one session. Each is a byte (codec, whether a report came), milliseconds since the one before, a length
/// (2 bytes) and as much of a body as there is.
pub fn frames(mut data: &[u8]) {
    let begin = Instant::now();
    let mut tracks = Tracks::new(begin);
    let (mut at, mut told) = (0u64, Told::default());
    while let Some((&[kind, step, l0, l1], rest)) = data.split_first_chunk::<4>() {
        let (body, rest) = rest.split_at(usize::from(u16::from_be_bytes([l0, l1])).min(rest.len()));
        data = rest;
        at += u64::from(step);
        let (codec, rate) = match kind & 3 {
            0 => (FrameCodec::H264, 90_000),
            1 => (FrameCodec::Vp8, 90_000),
            _ => (FrameCodec::Opus, 48_000),
        };
        let report = (kind & 4 != 0).then(|| (at * u64::from(rate) / 1000, i64::from(kind >> 3) * 100_000_000));
        let frame = Frame {
            codec,
            ticks: at * u64::from(rate) / 1000,
            rate,
            arrival: begin + Duration::from_millis(at),
            report,
            data: Arc::from(body),
        };
        if !told.take(&mut tracks, &frame) {
            return;
        }
    }
}

/// What the tracks told so far.
pub(super) struct Told {
    pub(super) video: Option<VideoCodec>,
    pub(super) sound: bool,
    last: [i64; 2],
    /// Pictures and packets of sound.
    pub(super) packets: [usize; 2],
}

impl Default for Told {
    fn default() -> Self {
        Self { video: None, sound: false, last: [i64::MIN; 2], packets: [0; 2] }
    }
}

impl Told {
    /// Has the tracks take a frame, and looks at what they make of it; `false` where the session ends by that.
    pub(super) fn take(&mut self, tracks: &mut Tracks, frame: &Frame) -> bool {
        let Ok(taken) = tracks.take(frame) else { return false };
        for event in taken.events.into_iter().flatten() {
            let packet = match event {
                MediaEvent::VideoConfig(config) => {
                    assert!(config.record.len() <= 65_536 * 2 && config.width < 1 << 14 && config.height < 1 << 14);
                    self.video = Some(config.codec);
                    continue;
                }
                MediaEvent::AudioConfig(_) => {
                    self.sound = true;
                    continue;
                }
                MediaEvent::Video(packet) => {
                    assert!(self.video.is_some(), "a picture before its configuration");
                    let avc = frame.codec == FrameCodec::H264;
                    assert!(!avc || units_fill(&packet.data), "units that do not fill their packet");
                    assert!(
                        !packet.keyframe || avc == (self.video == Some(VideoCodec::H264)),
                        "another's configuration"
                    );
                    packet
                }
                MediaEvent::Audio(packet) => {
                    assert!(self.sound, "sound before its configuration");
                    packet
                }
            };
            // Each start code of three bytes becomes four of length.
            assert!(packet.data.len() <= frame.data.len() / 3 * 4 + 4, "more than came in");
            let index = usize::from(frame.codec == FrameCodec::Opus);
            assert!(packet.pts.nanos() >= self.last[index], "time goes back");
            self.last[index] = packet.pts.nanos();
            self.packets[index] += 1;
        }
        true
    }
}

fn units_fill(mut data: &[u8]) -> bool {
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > rest.len() {
            return false;
        }
        data = &rest[length..];
    }
    data.is_empty()
}
