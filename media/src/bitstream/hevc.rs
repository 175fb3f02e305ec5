//! What an H.265 sequence parameter set says of its picture (ITU-T H.265, 7.3.2.2 and 7.3.3).

use super::bits::{Bits, side, unescape};

/// Bits of a general or sub-layer profile, and of the level after it.
const PROFILE: usize = 88;
const LEVEL: usize = 8;

/// The part of a parameter set that is of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sps {
    /// Width and height in pixels, after cropping; `None` where that is absurd.
    pub size: Option<(u32, u32)>,
    /// Width and height in pixels as they are coded: what decoding costs.
    pub coded: (u32, u32),
}

/// Parses a NAL unit. `None` where the set is broken.
pub(crate) fn parse(nal: &[u8]) -> Option<Sps> {
    // The size comes early; profiles of all sub-layers before it are some hundred bytes.
    let body = unescape(nal.get(2..)?.get(..nal.len().min(1024) - 2)?);
    let mut bits = Bits::new(&body);
    bits.skip(4)?; // video parameter set
    let sub_layers = usize::try_from(bits.take(3)?).ok()?;
    bits.skip(1)?; // temporal nesting
    bits.skip(PROFILE + LEVEL)?;
    let mut present = Vec::with_capacity(sub_layers);
    for _ in 0..sub_layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { PROFILE } else { 0 } + if level { LEVEL } else { 0 })?;
    }
    bits.golomb()?; // id
    let chroma = bits.golomb()?;
    let separate_planes = chroma == 3 && bits.flag()?;
    let coded = (bits.golomb()?, bits.golomb()?);
    let mut crop = [0_u64; 4];
    if bits.flag()? {
        for side in &mut crop {
            *side = u64::from(bits.golomb()?);
        }
    }
    let (unit_x, unit_y) = match (chroma, separate_planes) {
        (1, _) => (2, 2),
        (2, _) => (2, 1),
        _ => (1, 1),
    };
    let width = u64::from(coded.0).checked_sub((crop[0] + crop[1]) * unit_x).and_then(side);
    let height = u64::from(coded.1).checked_sub((crop[2] + crop[3]) * unit_y).and_then(side);
    Some(Sps { size: width.zip(height), coded })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1920x1080 as x265 codes it: 1088 rows, of which eight are cropped.
    const FULL_HD: [u8; 40] = [
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x78,
        0xa0, 0x03, 0xc0, 0x80, 0x11, 0x07, 0xcb, 0x96, 0xb4, 0xa4, 0x25, 0x92, 0xe3, 0x01, 0x6a, 0x02, 0x02, 0x02,
        0x08, 0x00, 0x00, 0x03,
    ];

    #[test]
    fn size_is_what_is_shown() {
        assert_eq!(parse(&FULL_HD), Some(Sps { size: Some((1920, 1080)), coded: (1920, 1088) }));
    }

    #[test]
    fn broken_sets_are_refused() {
        for length in 0..24 {
            assert_eq!(parse(&FULL_HD[..length]), None, "{length}");
        }
        assert_eq!(parse(&[0; 64]).and_then(|sps| sps.size), None);
        assert_eq!(parse(&[0xff; 2000]).and_then(|sps| sps.size), None);
    }
}
