//! What a VP8 frame says of itself (RFC 6386, 9.1), and the record that MP4 keeps of it.

use bytes::Bytes;
use crest_core::codec::{VideoCodec, VideoConfig};

/// What follows the frame tag of a keyframe.
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

/// Whether decoding can start at this frame.
pub(super) fn is_keyframe(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 1 == 0)
}

/// The configuration that a keyframe begins; `None` where it is no whole one.
pub(super) fn config(keyframe: &[u8]) -> Option<VideoConfig> {
    let header: &[u8; 10] = keyframe.first_chunk()?;
    if !is_keyframe(header) || header[3..6] != START_CODE {
        return None;
    }
    // The upper two bits are a hint at scaling.
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let (width, height) = (side(header[6], header[7]), side(header[8], header[9]));
    let profile = header[0] >> 1 & 7;
    (width > 0 && height > 0).then(|| VideoConfig { codec: VideoCodec::Vp8, record: record(profile), width, height })
}

/// The payload of `vpcC` ("VP Codec ISO Media File Format Binding", version 1): 8 bits, 4:2:0, colours not said.
fn record(profile: u8) -> Bytes {
    let version_and_flags = [1, 0, 0, 0];
    let level_not_said = 0;
    let depth_chroma_range = 8 << 4 | 1 << 1;
    let colours_not_said = [2, 2, 2];
    let no_initialization = [0, 0];
    [&version_and_flags[..], &[profile, level_not_said, depth_chroma_range], &colours_not_said, &no_initialization]
        .concat()
        .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_says_its_size() {
        let frame = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0x68, 0x01, 0xff];
        let config = config(&frame).unwrap();
        assert_eq!((config.width, config.height), (640, 360), "the scaling hint is no part of the size");
        assert_eq!(config.record.as_ref(), [1, 0, 0, 0, 0, 0, 0x82, 2, 2, 2, 0, 0]);
    }

    #[test]
    fn what_is_no_keyframe_configures_nothing() {
        let between = [0x11, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
        assert!(!is_keyframe(&between) && !is_keyframe(&[]));
        for broken in [&between[..], &[0x10, 0x02, 0x00, 0x9d, 0x01], &[0x10; 10]] {
            assert_eq!(config(broken), None);
        }
    }
}
