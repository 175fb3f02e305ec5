//! FLV tag bodies, as RTMP messages carry them, -> [`MediaEvent`]s. Every read is bounded by the
//! body; what cannot be used is skipped with a cause and never ends a feed.
//!
//! Sources: "Video File Format Specification" 10.1, annex E; "Enhanced RTMP" v1 and v2.

mod audio;
mod enhanced;
mod records;
mod video;

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{AudioConfig, MediaEvent, VideoConfig};

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
    /// A codec that is not kept.
    UnsupportedCodec,
    /// A configuration as MPEG-2 transport streams have it.
    TransportStream,
    /// Tracks other than the one that is taken.
    OtherTrack,
    /// Says something that feeds do not need: metadata, end of sequence, seek markers, a repeated configuration.
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
            Self::TransportStream => "transport_stream_configuration",
            Self::OtherTrack => "other_track",
            Self::NotMedia => "not_media",
        }
    }
}

/// Which tracks of a publisher are taken. One that sends no more than one of each sends tracks 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The video track.
    pub video: u8,
    /// The audio track.
    pub audio: u8,
}

/// Reads the tags of one publisher, in order.
#[derive(Debug)]
pub struct TagParser {
    max_body: usize,
    chosen: Chosen,
    clock: Unwrap,
    video: Option<(VideoConfig, video::Framing)>,
    audio: Option<AudioConfig>,
    passed_by: PassedBy,
}

/// What a track's bytes say, before its time is known.
enum Read {
    VideoConfig(VideoConfig, video::Framing),
    AudioConfig(AudioConfig),
    /// Presentation after decoding, whether decoding can start here, and the access unit.
    Video(MediaTime, bool, Bytes),
    Audio(Bytes),
    /// An access unit with the configuration that it says itself.
    SelfSaying(AudioConfig, Bytes),
}

impl TagParser {
    /// Takes the `chosen` tracks; skips bodies of more than `max_body` bytes.
    pub fn new(max_body: usize, chosen: Chosen) -> Self {
        Self { max_body, chosen, clock: Unwrap::default(), video: None, audio: None, passed_by: PassedBy::default() }
    }

    /// Reads one tag body with its 32-bit millisecond timestamp: at most a configuration and a packet, in this
    /// order. Packets carry the publisher's time, extended beyond 32 bits.
    pub fn read(&mut self, kind: TagKind, timestamp: u32, body: &Bytes) -> Result<Events, Skip> {
        if body.is_empty() {
            return Err(Skip::Empty);
        }
        if body.len() > self.max_body {
            return Err(Skip::TooLarge);
        }
        let (read, nanos) = match kind {
            TagKind::Video => self.video(body)?,
            TagKind::Audio => self.audio(body)?,
        };
        self.told(read, timestamp, nanos)
    }

    /// Tracks that were met for the first time since the last call and are not taken.
    pub fn passed_by(&mut self) -> Vec<(TagKind, u8)> {
        std::mem::take(&mut self.passed_by.new)
    }

    fn told(&mut self, read: Read, timestamp: u32, nanos: u32) -> Result<Events, Skip> {
        let mut clock = |read: Bytes, keyframe, composition| {
            let dts = self.clock.extend(timestamp) + MediaTime::from_nanos(i64::from(nanos));
            crest_core::codec::Packet { pts: dts + composition, dts, keyframe, data: read }
        };
        Ok(match read {
            Read::VideoConfig(config, framing) => {
                if self.video.as_ref().is_some_and(|(known, _)| *known == config) {
                    return Err(Skip::NotMedia);
                }
                self.video = Some((config.clone(), framing));
                Events::one(MediaEvent::VideoConfig(config))
            }
            Read::AudioConfig(config) => {
                if self.audio.as_ref() == Some(&config) {
                    return Err(Skip::NotMedia);
                }
                self.audio = Some(config.clone());
                Events::one(MediaEvent::AudioConfig(config))
            }
            Read::Video(composition, keyframe, data) => {
                Events::one(MediaEvent::Video(clock(data, keyframe, composition)))
            }
            Read::Audio(data) => Events::one(MediaEvent::Audio(clock(data, true, MediaTime::ZERO))),
            Read::SelfSaying(config, data) => {
                let packet = MediaEvent::Audio(clock(data, true, MediaTime::ZERO));
                if self.audio.as_ref() == Some(&config) {
                    return Ok(Events::one(packet));
                }
                self.audio = Some(config.clone());
                Events { configuration: Some(MediaEvent::AudioConfig(config)), ..Events::one(packet) }
            }
        })
    }
}

/// What one tag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    configuration: Option<MediaEvent>,
    event: MediaEvent,
}

impl Events {
    fn one(event: MediaEvent) -> Self {
        Self { configuration: None, event }
    }
}

impl IntoIterator for Events {
    type Item = MediaEvent;
    type IntoIter = std::iter::Chain<std::option::IntoIter<MediaEvent>, std::iter::Once<MediaEvent>>;

    fn into_iter(self) -> Self::IntoIter {
        self.configuration.into_iter().chain(std::iter::once(self.event))
    }
}

/// Tracks that were met and are not taken.
#[derive(Debug, Default)]
struct PassedBy {
    /// One bit per track: of audio, of video.
    known: [[u64; 4]; 2],
    new: Vec<(TagKind, u8)>,
}

impl PassedBy {
    fn note(&mut self, kind: TagKind, track: u8) {
        let words = &mut self.known[usize::from(kind == TagKind::Video)];
        let (word, bit) = (&mut words[usize::from(track / 64)], 1 << (track % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.new.push((kind, track));
        }
    }
}

#[cfg(test)]
mod enhanced_tests;
#[cfg(test)]
mod tests;
