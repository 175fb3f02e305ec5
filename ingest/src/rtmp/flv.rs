//! FLV tag bodies, as RTMP messages carry them, -> [`MediaEvent`]s. Every read is bounded by the
//! body; what cannot be used is skipped with a cause and never ends a feed.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, AudioConfig, MediaEvent, Packet, VideoCodec, VideoConfig};

use crate::timeline::Unwrap;

/// The audio or the video message of RTMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKind {
    /// Message type 8.
    Audio,
    /// Message type 9.
    Video,
}

/// Why a tag carries nothing usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// No payload.
    Empty,
    /// Shorter than its header.
    Truncated,
    /// Larger than accepted.
    TooLarge,
    /// The payload contradicts itself.
    Malformed,
    /// Media before the configuration that it needs.
    NoConfiguration,
    /// A codec other than H.264 and AAC.
    UnsupportedCodec,
    /// An enhanced-RTMP tag.
    Enhanced,
    /// Says something that feeds do not need: end of sequence, seek markers, a repeated configuration.
    NotMedia,
}

impl Skip {
    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::NoConfiguration => "no_configuration",
            Self::UnsupportedCodec => "unsupported_codec",
            Self::Enhanced => "enhanced_rtmp",
            Self::NotMedia => "not_media",
        }
    }
}

const AVC: u8 = 7;
const AAC: u8 = 10;
const EXTENDED_AUDIO: u8 = 9;

/// Reads the tags of one publisher, in order.
#[derive(Debug)]
pub struct TagParser {
    max_body: usize,
    clock: Unwrap,
    video: Option<(VideoConfig, usize)>,
    audio: Option<AudioConfig>,
}

impl TagParser {
    /// Skips bodies of more than `max_body` bytes.
    pub fn new(max_body: usize) -> Self {
        Self { max_body, clock: Unwrap::default(), video: None, audio: None }
    }

    /// Reads one tag body with its 32-bit millisecond timestamp. Packets carry the publisher's time,
    /// extended beyond 32 bits.
    pub fn read(&mut self, kind: TagKind, timestamp: u32, body: &Bytes) -> Result<MediaEvent, Skip> {
        if body.is_empty() {
            return Err(Skip::Empty);
        }
        if body.len() > self.max_body {
            return Err(Skip::TooLarge);
        }
        match kind {
            TagKind::Video => self.video(timestamp, body),
            TagKind::Audio => self.audio(timestamp, body),
        }
    }

    fn video(&mut self, timestamp: u32, body: &Bytes) -> Result<MediaEvent, Skip> {
        let first = body.first().copied().ok_or(Skip::Empty)?;
        if first & 0x80 != 0 {
            return Err(Skip::Enhanced);
        }
        let (frame_type, codec) = (first >> 4, first & 0x0f);
        if frame_type == 5 {
            return Err(Skip::NotMedia);
        }
        if codec != AVC {
            return Err(Skip::UnsupportedCodec);
        }
        let &[_, packet_type, c0, c1, c2, ref payload @ ..] = body.as_ref() else { return Err(Skip::Truncated) };
        match packet_type {
            0 => {
                let length_size = avc_length_size(payload).ok_or(Skip::Malformed)?;
                let config = VideoConfig { codec: VideoCodec::H264, record: body.slice(5..), width: 0, height: 0 };
                if self.video.as_ref().is_some_and(|(known, _)| *known == config) {
                    return Err(Skip::NotMedia);
                }
                self.video = Some((config.clone(), length_size));
                Ok(MediaEvent::VideoConfig(config))
            }
            1 => {
                let (_, length_size) = self.video.as_ref().ok_or(Skip::NoConfiguration)?;
                if payload.is_empty() {
                    return Err(Skip::Empty);
                }
                if !nal_units_fit(payload, *length_size) {
                    return Err(Skip::Malformed);
                }
                // A signed 24-bit number of milliseconds.
                let composition = i32::from_be_bytes([c0, c1, c2, 0]) >> 8;
                let dts = self.clock.extend(timestamp);
                Ok(MediaEvent::Video(Packet {
                    pts: dts + MediaTime::from_millis(i64::from(composition)),
                    dts,
                    keyframe: frame_type == 1 || frame_type == 4,
                    data: body.slice(5..),
                }))
            }
            2 => Err(Skip::NotMedia),
            _ => Err(Skip::Malformed),
        }
    }

    fn audio(&mut self, timestamp: u32, body: &Bytes) -> Result<MediaEvent, Skip> {
        let first = body.first().copied().ok_or(Skip::Empty)?;
        match first >> 4 {
            AAC => {}
            EXTENDED_AUDIO => return Err(Skip::Enhanced),
            _ => return Err(Skip::UnsupportedCodec),
        }
        let &[_, packet_type, ref payload @ ..] = body.as_ref() else { return Err(Skip::Truncated) };
        match packet_type {
            0 => {
                let (sample_rate, channels) = aac_format(payload).ok_or(Skip::Malformed)?;
                let config = AudioConfig { codec: AudioCodec::Aac, record: body.slice(2..), sample_rate, channels };
                if self.audio.as_ref() == Some(&config) {
                    return Err(Skip::NotMedia);
                }
                self.audio = Some(config.clone());
                Ok(MediaEvent::AudioConfig(config))
            }
            1 => {
                if self.audio.is_none() {
                    return Err(Skip::NoConfiguration);
                }
                if payload.is_empty() {
                    return Err(Skip::Empty);
                }
                let dts = self.clock.extend(timestamp);
                Ok(MediaEvent::Audio(Packet { pts: dts, dts, keyframe: true, data: body.slice(2..) }))
            }
            _ => Err(Skip::Malformed),
        }
    }
}

/// Checks an `avcC` record as far as others rely on it, and returns its NAL length size.
fn avc_length_size(record: &[u8]) -> Option<usize> {
    let &[1, _, _, _, lengths, counts, ref sets @ ..] = record else { return None };
    let length_size = usize::from(lengths & 0x03) + 1;
    let sequence_sets = counts & 0x1f;
    if length_size == 3 || sequence_sets == 0 {
        return None;
    }
    let mut rest = sets;
    for _ in 0..sequence_sets {
        rest = parameter_set(rest, 7)?;
    }
    let (&picture_sets, mut rest) = rest.split_first()?;
    for _ in 0..picture_sets {
        rest = parameter_set(rest, 8)?;
    }
    Some(length_size)
}

/// Steps over one length-prefixed NAL unit of type `nal_type`.
fn parameter_set(bytes: &[u8], nal_type: u8) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (unit, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    (unit.first()? & 0x1f == nal_type && unit.len() >= 2).then_some(rest)
}

/// Whether length-prefixed NAL units fill the payload exactly.
fn nal_units_fit(mut payload: &[u8], length_size: usize) -> bool {
    while !payload.is_empty() {
        let Some((prefix, rest)) = payload.split_at_checked(length_size) else { return false };
        let length = prefix.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte));
        let Some((_, rest)) = rest.split_at_checked(length) else { return false };
        payload = rest;
    }
    true
}

/// Sample rate and channels of an AudioSpecificConfig.
fn aac_format(record: &[u8]) -> Option<(u32, u16)> {
    const RATES: [u32; 13] =
        [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
    let mut bits = Bits { bytes: record, at: 0 };
    let object_type = match bits.take(5)? {
        31 => 32 + bits.take(6)?,
        other => other,
    };
    if object_type == 0 {
        return None;
    }
    let rate = match bits.take(4)? {
        15 => bits.take(24)?,
        index => *RATES.get(usize::try_from(index).ok()?)?,
    };
    let channels = match bits.take(4)? {
        // Told in a program config element; stereo is what is sent in practice.
        0 => 2,
        count @ 1..=6 => u16::try_from(count).ok()?,
        7 | 12 | 14 => 8,
        11 => 7,
        _ => return None,
    };
    (7_350..=96_000).contains(&rate).then_some((rate, channels))
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = (value << 1) | u32::from((byte >> (7 - self.at % 8)) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
#[path = "flv_tests.rs"]
mod tests;
