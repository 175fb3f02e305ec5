//! Encoded media as a feed delivers it, before anything is decoded.

use bytes::Bytes;

use crate::time::MediaTime;

/// A video codec crest can keep and decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// H.264 in AVC framing (four-byte NAL lengths or as the configuration record says).
    H264,
    /// H.265 in HVC1 framing.
    H265,
    /// AV1: temporal units of OBUs in low-overhead format, without temporal delimiters.
    Av1,
    /// VP9 frames; superframes as the encoder made them.
    Vp9,
    /// VP8 frames.
    Vp8,
}

/// An audio codec crest can keep and decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// MPEG-4 AAC, raw access units.
    Aac,
    /// Opus packets.
    Opus,
    /// MPEG-1 or MPEG-2 audio, layer III: whole frames with their headers.
    Mp3,
}

/// What a decoder or a container needs to know of a video track.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VideoConfig {
    /// The codec.
    pub codec: VideoCodec,
    /// The decoder configuration record: the payload of `avcC`, `hvcC` or `av1C`; of `vpcC` for VP8 and VP9,
    /// whose frames say the rest themselves.
    pub record: Bytes,
    /// Width in pixels; 0 where the feed did not say.
    pub width: u32,
    /// Height in pixels; 0 where the feed did not say.
    pub height: u32,
}

/// What a decoder or a container needs to know of an audio track.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AudioConfig {
    /// The codec.
    pub codec: AudioCodec,
    /// The AudioSpecificConfig; for Opus the payload of `dOps`; empty for MP3, whose frames say everything.
    pub record: Bytes,
    /// Samples per second and channel.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
}

/// One encoded access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Presentation time on the session's timeline.
    pub pts: MediaTime,
    /// Decoding time on the session's timeline.
    pub dts: MediaTime,
    /// Whether decoding can start here. Audio: always.
    pub keyframe: bool,
    /// The access unit.
    pub data: Bytes,
}

/// What a feed delivers, in the order in which it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaEvent {
    /// The video track's configuration, before its first packet and at each change.
    VideoConfig(VideoConfig),
    /// The audio track's configuration, before its first packet and at each change.
    AudioConfig(AudioConfig),
    /// A video access unit.
    Video(Packet),
    /// An audio access unit.
    Audio(Packet),
}
