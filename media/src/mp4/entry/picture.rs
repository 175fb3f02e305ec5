//! How large pictures are, where neither feed nor container says it.

use crest_core::codec::{VideoCodec, VideoConfig};
use mp4_atom::{Atom, Hvcc};

use super::video::avcc;
use crate::bitstream::h264::Sps;
use crate::bitstream::{av1, h264, hevc, vpx};

/// Type of an H.265 sequence parameter set.
const HEVC_SPS: u8 = 33;

/// Fills in width and height from the configuration record where the feed did not say them.
pub(crate) fn announced_size(mut config: VideoConfig) -> VideoConfig {
    if config.width == 0 || config.height == 0 {
        let found = match config.codec {
            VideoCodec::H264 => h264(&config.record).and_then(|sps| sps.size),
            VideoCodec::H265 => h265(&config.record),
            VideoCodec::Av1 => av1::sequence(&av1::units_of(&config.record)).map(|s| (s.width, s.height)),
            // Their records say nothing of it, their keyframes do.
            VideoCodec::Vp9 | VideoCodec::Vp8 => None,
        };
        if let Some(size) = found {
            (config.width, config.height) = size;
        }
    }
    config
}

/// The size that a keyframe says itself, in codecs whose keyframes do.
pub(crate) fn size_in(codec: VideoCodec, keyframe: &[u8]) -> Option<(u32, u32)> {
    match codec {
        VideoCodec::H264 | VideoCodec::H265 => None,
        VideoCodec::Av1 => av1::sequence(keyframe).map(|s| (s.width, s.height)),
        VideoCodec::Vp9 => vpx::vp9(keyframe).map(|k| (k.width, k.height)),
        VideoCodec::Vp8 => vpx::vp8(keyframe).map(|k| (k.width, k.height)),
    }
}

/// What the first parameter set of an `avcC` record says.
pub(crate) fn h264(record: &[u8]) -> Option<Sps> {
    avcc(record).ok()?.sequence_parameter_sets.first().and_then(|nal| h264::parse(nal))
}

fn h265(mut record: &[u8]) -> Option<(u32, u32)> {
    let hvcc = Hvcc::decode_body(&mut record).ok()?;
    let sets = hvcc.arrays.iter().find(|array| array.nal_unit_type == HEVC_SPS)?;
    sets.nalus.first().and_then(|nal| hevc::parse(nal)?.size)
}
