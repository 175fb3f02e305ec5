//! What frames of VP8 and VP9 say, and the configuration record (`vpcC`) that containers want of both.
//!
//! Sources: RFC 6386, 9.1 (VP8); "VP9 Bitstream & Decoding Process Specification" 6.2 and 7.2 (VP9); "VP Codec ISO
//! Media File Format Binding" 1.0 (the record).

use bytes::Bytes;

use super::bits::{Bits, side};

/// Version and flags that begin the payload of a `vpcC` box.
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// Bytes of a record without initialisation data.
const RECORD: usize = VERSION.len() + 8;

/// What a keyframe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyframe {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    profile: u8,
    bit_depth: u8,
    /// As `vpcC` numbers it: 1 is 4:2:0, 2 is 4:2:2, 3 is 4:4:4.
    subsampling: u8,
    full_range: bool,
    /// Primaries, transfer and matrix, as ITU-T H.273 numbers them.
    colour: [u8; 3],
}

impl Keyframe {
    /// The payload of `vpcC` for the track that begins with this frame.
    pub fn record(&self) -> Bytes {
        let [primaries, transfer, matrix] = self.colour;
        let depth = self.bit_depth << 4 | self.subsampling << 1 | u8::from(self.full_range);
        let fields = [self.profile, self.level(), depth, primaries, transfer, matrix, 0, 0];
        [&VERSION[..], &fields].concat().into()
    }

    /// The lowest level whose pictures are as large as this one, times ten.
    fn level(&self) -> u8 {
        const LEVELS: [(u64, u8); 8] = [
            (36_864, 10),
            (73_728, 11),
            (122_880, 20),
            (245_760, 21),
            (552_960, 30),
            (983_040, 31),
            (2_228_224, 40),
            (8_912_896, 50),
        ];
        let pixels = u64::from(self.width) * u64::from(self.height);
        LEVELS.iter().find(|(most, _)| pixels <= *most).map_or(60, |(_, level)| *level)
    }
}

/// What a VP8 frame says; `None` for what is no keyframe.
pub fn vp8(frame: &[u8]) -> Option<Keyframe> {
    let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = frame else { return None };
    // The two upper bits of each side only ask for scaling.
    let pixels = |low, high| side(u64::from(u16::from_le_bytes([low, high]) & 0x3fff));
    (tag & 1 == 0).then_some(())?;
    Some(Keyframe {
        width: pixels(w0, w1)?,
        height: pixels(h0, h1)?,
        profile: tag >> 1 & 7,
        bit_depth: 8,
        subsampling: 1,
        full_range: false,
        colour: [2; 3],
    })
}

/// What a VP9 frame says, the first one of a superframe; `None` for what is no keyframe.
pub fn vp9(frame: &[u8]) -> Option<Keyframe> {
    let mut bits = Bits::new(frame);
    (bits.take(2)? == 2).then_some(())?;
    let profile = bits.take(1)? | bits.take(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (shows_another, inter) = (bits.flag()?, bits.flag()?);
    bits.skip(2)?; // is shown, error resilient
    if shows_another || inter || bits.take(24)? != 0x49_83_42 {
        return None;
    }
    let bit_depth = match profile {
        0 | 1 => 8,
        _ if bits.flag()? => 12,
        _ => 10,
    };
    let space = bits.take(3)?;
    let (full_range, subsampling) = if space == SRGB {
        bits.skip(if profile & 1 == 1 { 1 } else { 0 })?;
        (true, 3)
    } else {
        let full_range = bits.flag()?;
        let halved = if profile & 1 == 1 { (bits.flag()?, bits.flag()?, bits.skip(1)?) } else { (true, true, ()) };
        (
            full_range,
            match halved {
                (true, true, ()) => 1,
                (true, false, ()) => 2,
                // 4:4:0 has no number of its own.
                (false, ..) => 3,
            },
        )
    };
    let colour = match space {
        1 | 3 => [6, 6, 6],
        2 => [1, 1, 1],
        4 => [7, 7, 7],
        5 => [9, 14, 9],
        SRGB => [1, 13, 0],
        _ => [2, 2, 2],
    };
    let (width, height) = (u64::from(bits.take(16)?) + 1, u64::from(bits.take(16)?) + 1);
    let profile = u8::try_from(profile).ok()?;
    Some(Keyframe { width: side(width)?, height: side(height)?, profile, bit_depth, subsampling, full_range, colour })
}

const SRGB: u32 = 7;

/// A configuration record as the payload of `vpcC`. Publishers send it with or without the version that a box begins
/// with; `None` for what is neither.
pub fn record(sent: &Bytes) -> Option<Bytes> {
    // A bare record that began like this would have pictures of no depth.
    let record = if sent.starts_with(&VERSION) { sent.clone() } else { Bytes::from([&VERSION[..], sent].concat()) };
    let depth = record.get(6)? >> 4;
    (record.len() >= RECORD && matches!(depth, 8 | 10 | 12)).then_some(record)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_say_their_size() {
        let key = [0x10, 2, 0, 0x9d, 1, 0x2a, 0x80, 0x42, 0x68, 0x01, 0];
        assert_eq!(vp8(&key).map(|k| (k.width, k.height)), Some((640, 360)), "scaling is no part of it");
        assert_eq!(vp8(&[&[0x11], &key[1..]].concat()), None, "an inter frame");
        assert_eq!(vp8(&key[..9]), None);
        // Profile 0, BT.709, 320x180.
        let key = [0x82, 0x49, 0x83, 0x42, 0x40, 0x13, 0xf0, 0x0b, 0x30, 0];
        let found = vp9(&key).unwrap();
        assert_eq!((found.width, found.height), (320, 180));
        assert_eq!(found.record().as_ref(), [1, 0, 0, 0, 0, 11, 0x82, 1, 1, 1, 0, 0]);
        assert_eq!(vp9(&[&[0x86], &key[1..]].concat()), None, "an inter frame");
        assert_eq!(vp9(&[0x88]), None, "another frame is shown");
        assert!((0..8).all(|length| vp9(&key[..length]).is_none()));
    }

    #[test]
    fn a_record_is_taken_with_and_without_its_version() {
        let bare = Bytes::from_static(&[0, 10, 0x82, 1, 1, 1, 0, 0]);
        let boxed = Bytes::from_static(&[1, 0, 0, 0, 0, 10, 0x82, 1, 1, 1, 0, 0]);
        assert_eq!(record(&bare).as_ref(), Some(&boxed));
        assert_eq!(record(&boxed).as_ref(), Some(&boxed));
        assert_eq!(record(&bare.slice(..7)), None);
        assert_eq!(record(&Bytes::from_static(&[0; 12])), None, "pictures of no depth");
    }
}
