//! What an H.264 sequence parameter set says: a feed over RTMP does not say the size of its picture elsewhere.

use super::bits::{Bits, side, unescape};

/// The part of a parameter set that is of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sps {
    /// Width and height in pixels, after cropping; `None` where that is absurd.
    pub size: Option<(u32, u32)>,
    /// Width and height in pixels as they are coded: what decoding costs.
    pub coded: (u32, u32),
    /// How many frames a frame may refer to.
    pub references: u32,
}

/// Parses a NAL unit. `None` where the set is broken or absurd.
pub(crate) fn parse(nal: &[u8]) -> Option<Sps> {
    // Parameter sets are tens of bytes; what is longer is not read to its end.
    let body: Vec<u8> = unescape(nal.get(1..)?.get(..nal.len().min(1024) - 1)?);
    let mut bits = Bits::new(&body);
    let profile = bits.take(8)?;
    bits.take(16)?; // constraints, level
    bits.golomb()?; // id
    let mut chroma = 1;
    let mut separate_planes = false;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.golomb()?;
        if chroma == 3 {
            separate_planes = bits.take(1)? == 1;
        }
        bits.golomb()?; // luma depth
        bits.golomb()?; // chroma depth
        bits.take(1)?; // lossless bypass
        if bits.take(1)? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.take(1)? == 1 {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?; // frame numbers
    match bits.golomb()? {
        0 => {
            bits.golomb()?;
        }
        1 => {
            bits.take(1)?;
            bits.golomb()?;
            bits.golomb()?;
            let cycle = bits.golomb()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                bits.golomb()?;
            }
        }
        _ => {}
    }
    let references = bits.golomb()?;
    bits.take(1)?; // gaps in frame numbers
    let across = u64::from(bits.golomb()?) + 1;
    let down = u64::from(bits.golomb()?) + 1;
    let frames_only = bits.take(1)?;
    if frames_only == 0 {
        bits.take(1)?; // macroblock-adaptive
    }
    bits.take(1)?; // direct inference
    let mut crop = [0_u64; 4];
    if bits.take(1)? == 1 {
        for side in &mut crop {
            *side = u64::from(bits.golomb()?);
        }
    }
    let (unit_x, unit_y) = match (chroma, separate_planes) {
        (1, _) => (2, 2),
        (2, _) => (2, 1),
        _ => (1, 1),
    };
    let fields = 2 - u64::from(frames_only);
    let coded = (across * 16, down * 16 * fields);
    let width = coded.0.checked_sub((crop[0] + crop[1]) * unit_x).and_then(side);
    let height = coded.1.checked_sub((crop[2] + crop[3]) * unit_y * fields).and_then(side);
    let coded = (u32::try_from(coded.0).unwrap_or(u32::MAX), u32::try_from(coded.1).unwrap_or(u32::MAX));
    (references <= 16).then_some(Sps { size: width.zip(height), coded, references })
}

fn skip_scaling_list(bits: &mut Bits<'_>, entries: usize) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..entries {
        if next != 0 {
            let code = i64::from(bits.golomb()?);
            let delta = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
            next = (last + delta).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes bits, to make parameter sets that no encoder here would.
    #[derive(Default)]
    struct Writer(Vec<bool>);
    impl Writer {
        fn bits(mut self, value: u32, count: u32) -> Self {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
            self
        }
        fn golomb(self, value: u32) -> Self {
            let len = (value + 1).ilog2();
            self.bits(0, len).bits(value + 1, len + 1)
        }
        fn nal(self) -> Vec<u8> {
            let mut out = vec![0x67];
            for chunk in self.0.chunks(8) {
                out.push(chunk.iter().enumerate().fold(0, |byte, (i, bit)| byte | u8::from(*bit) << (7 - i)));
            }
            out.push(0x80);
            out
        }
    }

    fn dimensions(nal: &[u8]) -> Option<(u32, u32)> {
        parse(nal).and_then(|sps| sps.size)
    }

    fn baseline(across: u32, down: u32, frames_only: bool, crop: Option<[u32; 4]>) -> Vec<u8> {
        let mut w = Writer::default().bits(66, 8).bits(30, 16).golomb(0).golomb(0).golomb(2).golomb(1).bits(0, 1);
        w = w.golomb(across - 1).golomb(down - 1).bits(u32::from(frames_only), 1);
        if !frames_only {
            w = w.bits(0, 1);
        }
        w = w.bits(1, 1).bits(u32::from(crop.is_some()), 1);
        for side in crop.into_iter().flatten() {
            w = w.golomb(side);
        }
        w.nal()
    }

    #[test]
    fn size_is_what_is_shown() {
        assert_eq!(dimensions(&baseline(80, 45, true, None)), Some((1280, 720)));
        assert_eq!(dimensions(&baseline(120, 68, true, Some([0, 0, 0, 4]))), Some((1920, 1080)));
        // Interlaced: rows count twice, and so does the crop.
        assert_eq!(dimensions(&baseline(120, 34, false, Some([0, 0, 0, 2]))), Some((1920, 1080)));
    }

    #[test]
    fn broken_sets_are_refused() {
        let good = baseline(120, 68, true, Some([0, 0, 0, 4]));
        for len in 0..8 {
            assert_eq!(dimensions(&good[..len]), None, "{len}");
        }
        assert_eq!(dimensions(&baseline(1, 1, true, Some([9, 0, 0, 0]))), None);
        assert_eq!(dimensions(&baseline(5000, 1, true, None)), None);
        assert_eq!(dimensions(&[0; 64]), None);
        assert_eq!(dimensions(&vec![0xff; 5000]).map(|_| ()), dimensions(&[0xff; 1024]).map(|_| ()));
    }
}
