//! Frames as the WebRTC library puts them together -> `MediaEvent`s.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, AudioConfig, MediaEvent, Packet, VideoCodec, VideoConfig};
use std::time::Instant;
use str0m::format::Codec;
use str0m::media::MediaData;
use str0m::rtp::rtcp::SenderInfo;

use super::clock::{Clock, Report};
use super::h264::ParameterSets;
use super::vp8;
use crate::changes::Changes;
use crate::timeline::Track;

/// Opus in RTP always runs at this rate, with two channels (RFC 7587, 4.1 and 7).
const OPUS_RATE: u32 = 48_000;
const OPUS_CHANNELS: u16 = 2;
/// The payload of `dOps` ("Encapsulation of Opus in ISO Base Media File Format", 4.3.2): version 0, two channels,
/// 312 samples of pre-skip as encoders have it, 48 kHz, no gain, one stream.
const OPUS_RECORD: [u8; 11] = [0, 2, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0];

/// A frame of either track.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) codec: FrameCodec,
    /// RTP time in ticks, extended past 32 bits.
    pub(super) ticks: u64,
    /// Ticks per second.
    pub(super) rate: u32,
    /// When its first packet arrived.
    pub(super) arrival: Instant,
    /// The latest sender report: RTP time in ticks, of which the lower 32 bits count, and the wall clock in
    /// nanoseconds.
    pub(super) report: Option<(u64, i64)>,
    /// The frame; H.264 in the byte stream format.
    pub(super) data: std::sync::Arc<[u8]>,
}

/// What a frame is encoded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameCodec {
    H264,
    Vp8,
    Opus,
}

impl Frame {
    /// Of what the library hands over; `None` where it is of a codec that was not agreed on.
    pub(super) fn new(media: &MediaData) -> Option<Self> {
        let codec = match media.params.spec().codec {
            Codec::H264 => FrameCodec::H264,
            Codec::Vp8 => FrameCodec::Vp8,
            Codec::Opus => FrameCodec::Opus,
            _ => return None,
        };
        Some(Self {
            codec,
            ticks: media.time.numer(),
            rate: media.time.denom(),
            arrival: media.network_time,
            report: media.last_sender_info.as_ref().and_then(report),
            data: media.data.clone(),
        })
    }
}

fn report(info: &SenderInfo) -> Option<(u64, i64)> {
    let wall = info.ntp_time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((info.rtp_time.numer(), i64::try_from(wall.as_nanos()).ok()?))
}

/// What came of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// A configuration that begins with it, and the frame.
    pub(super) events: [Option<MediaEvent>; 2],
    /// Whether it is a keyframe of the picture.
    pub(super) keyframe: bool,
    /// Whether the picture cannot be decoded before a keyframe comes.
    pub(super) lost: bool,
}

/// Configurations change all the time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Erratic;

/// Both tracks of a session.
pub(super) struct Tracks {
    clock: Clock,
    sets: ParameterSets,
    video: Option<VideoConfig>,
    audio: bool,
    changes: Changes,
}

impl Tracks {
    /// Of a session that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            sets: ParameterSets::default(),
            video: None,
            audio: false,
            changes: Changes::new(now),
        }
    }

    /// Takes the next frame.
    pub(super) fn take(&mut self, frame: &Frame) -> Result<Taken, Erratic> {
        match frame.codec {
            FrameCodec::Opus => Ok(self.sound(frame)),
            FrameCodec::H264 => {
                let Some(unit) = self.sets.read(&frame.data) else { return Ok(Taken::default()) };
                let config = unit.keyframe.then(|| self.sets.record()).flatten().map(|record| VideoConfig {
                    codec: VideoCodec::H264,
                    record,
                    // The parameter sets say it to whoever needs it.
                    width: 0,
                    height: 0,
                });
                self.picture(frame, unit.keyframe, config, unit.data)
            }
            FrameCodec::Vp8 => {
                let keyframe = vp8::is_keyframe(&frame.data);
                let config = keyframe.then(|| vp8::config(&frame.data)).flatten();
                self.picture(frame, keyframe, config, Bytes::copy_from_slice(&frame.data))
            }
        }
    }

    fn sound(&mut self, frame: &Frame) -> Taken {
        // Nothing is sent in silence (RFC 7587, 3.1.3), and an empty packet has nothing to decode.
        if frame.data.is_empty() {
            return Taken::default();
        }
        let config = (!std::mem::replace(&mut self.audio, true)).then(|| {
            MediaEvent::AudioConfig(AudioConfig {
                codec: AudioCodec::Opus,
                record: Bytes::from_static(&OPUS_RECORD),
                sample_rate: OPUS_RATE,
                channels: OPUS_CHANNELS,
            })
        });
        let at = self.place(Track::Audio, frame);
        let packet = Packet { pts: at, dts: at, keyframe: true, data: Bytes::copy_from_slice(&frame.data) };
        Taken { events: [config, Some(MediaEvent::Audio(packet))], ..Taken::default() }
    }

    /// `config` is that of a keyframe; decoding begins at the first one that has it.
    fn picture(
        &mut self,
        frame: &Frame,
        keyframe: bool,
        config: Option<VideoConfig>,
        data: Bytes,
    ) -> Result<Taken, Erratic> {
        let at = self.place(Track::Video, frame);
        if if keyframe { config.is_none() } else { self.video.is_none() } {
            return Ok(Taken { lost: true, ..Taken::default() });
        }
        let changed = config.filter(|config| self.video.as_ref() != Some(config));
        if let Some(config) = &changed {
            self.video = Some(config.clone());
            if self.changes.too_many(frame.arrival) {
                return Err(Erratic);
            }
        }
        // WebRTC knows no other order than that of decoding.
        let packet = MediaEvent::Video(Packet { pts: at, dts: at, keyframe, data });
        Ok(Taken { events: [changed.map(MediaEvent::VideoConfig), Some(packet)], keyframe, lost: false })
    }

    fn place(&mut self, track: Track, frame: &Frame) -> MediaTime {
        let nanos =
            |ticks: i128| i64::try_from(ticks * 1_000_000_000 / i128::from(frame.rate.max(1))).unwrap_or(i64::MAX);
        // The report's RTP time is extended from the first report on, the frame's from the first frame on.
        let report = frame.report.map(|(ticks, wall)| {
            let from_frame = (ticks as u32).wrapping_sub(frame.ticks as u32).cast_signed();
            Report { rtp: nanos(i128::from(frame.ticks) + i128::from(from_frame)), wall }
        });
        self.clock.place(track, nanos(frame.ticks.into()), frame.arrival, report)
    }
}

#[cfg(test)]
#[path = "tracks_tests.rs"]
mod tests;
