//! Where decoding can start. Parsers call every intra picture a keyframe; but pictures after a plain
//! intra picture may refer to pictures before it, so neither a decoder nor a clip can begin there.

use crest_core::codec::{VideoCodec, VideoConfig};

use crate::bitstream::{av1, vpx};

/// NAL units of an access unit that are looked at; more is not a picture.
const MAX_NALS: usize = 512;

/// Whether decoding can start at this access unit: at an instantaneous refresh, or at a recovery point
/// without any pictures to wait for (ITU-T H.264 7.4.1.2.4 and D.2.8; H.265 7.4.2.2). Keyframes of AV1, VP9 and VP8
/// are places to start by themselves.
pub(crate) fn is_random_access(config: &VideoConfig, unit: &[u8]) -> bool {
    let length_bytes = match config.codec {
        VideoCodec::H264 => config.record.get(4),
        VideoCodec::H265 => config.record.get(21),
        VideoCodec::Av1 => return av1::is_keyframe(unit),
        VideoCodec::Vp9 => return vpx::vp9(unit).is_some(),
        VideoCodec::Vp8 => return vpx::vp8(unit).is_some(),
    };
    let length_bytes = usize::from(length_bytes.map_or(3, |b| b & 3)) + 1;
    nals(unit, length_bytes).any(|nal| match (config.codec, nal.first()) {
        (VideoCodec::H264, Some(head)) => match head & 0x1f {
            5 => true,
            6 => nal.get(1..).is_some_and(recovers_at_once),
            _ => false,
        },
        (VideoCodec::H265, Some(head)) => (16..=21).contains(&((head >> 1) & 0x3f)),
        (_, _) => false,
    })
}

/// The NAL units of a length-prefixed access unit, as far as the lengths make sense.
fn nals(unit: &[u8], length_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = unit;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_at_checked(length_bytes)?;
        let length = length.iter().fold(0usize, |sum, byte| (sum << 8) | usize::from(*byte));
        let (nal, after) = after.split_at_checked(length)?;
        rest = after;
        Some(nal)
    })
    .take(MAX_NALS)
}

/// Whether an SEI message names a recovery point with `recovery_frame_cnt` 0.
fn recovers_at_once(mut sei: &[u8]) -> bool {
    while let Some((kind, rest)) = extended(sei) {
        let Some((size, rest)) = extended(rest) else { return false };
        let Some((payload, rest)) = rest.split_at_checked(size) else { return false };
        if kind == 6 {
            // Exp-Golomb 0 is a single set bit.
            return payload.first().is_some_and(|byte| byte & 0x80 != 0);
        }
        sei = rest;
    }
    false
}

/// A number in the notation of SEI types and sizes: 255 means "and more follows".
fn extended(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let more = bytes.iter().take_while(|b| **b == 255).count();
    let last = bytes.get(more)?;
    Some((more * 255 + usize::from(*last), bytes.get(more + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264() -> VideoConfig {
        let record = bytes::Bytes::from_static(&[1, 66, 0, 30, 0xff]);
        VideoConfig { codec: VideoCodec::H264, record, width: 0, height: 0 }
    }

    #[test]
    fn an_intra_picture_is_not_a_place_to_start() {
        let unit = |nal: &[u8]| [&[0, 0, 0, nal.len() as u8], nal].concat();
        assert!(is_random_access(&h264(), &unit(&[0x65, 0x88])));
        assert!(!is_random_access(&h264(), &unit(&[0x61, 0x88])));
        let with_recovery = [unit(&[0x06, 6, 1, 0x80, 0x80]), unit(&[0x61, 0x88])].concat();
        assert!(is_random_access(&h264(), &with_recovery));
        let later = [unit(&[0x06, 5, 2, 1, 2, 6, 1, 0x40, 0x80]), unit(&[0x61, 0x88])].concat();
        assert!(!is_random_access(&h264(), &later));
    }

    #[test]
    fn lengths_that_lie_end_the_search() {
        assert!(!is_random_access(&h264(), &[0, 0, 0, 200, 0x65]));
        assert!(!is_random_access(&h264(), &[0xff]));
        assert!(!is_random_access(&h264(), &[]));
    }
}
