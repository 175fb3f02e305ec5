//! What the header of an MP3 frame says (ISO/IEC 11172-3, 2.4.1.3; ISO/IEC 13818-3 for the lower rates).

/// A frame of MPEG-1, MPEG-2 or MPEG-2.5 audio, layer III.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Samples per second and channel.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
    /// Samples per channel.
    pub samples: u32,
}

/// Reads a frame's header; `None` for what is no layer III.
pub fn frame(unit: &[u8]) -> Option<Frame> {
    let &[0xff, second, third, fourth, ..] = unit else { return None };
    let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
    if second & 0xe0 != 0xe0 || layer != 1 || version == 1 || third >> 4 == 15 {
        return None;
    }
    let rate = *[44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))?;
    // MPEG-1 is 3, MPEG-2 is 2, and 0 is what was added for a quarter of the rate.
    let (sample_rate, samples) = match version {
        3 => (rate, 1152),
        2 => (rate / 2, 576),
        _ => (rate / 4, 576),
    };
    Some(Frame { sample_rate, channels: if fourth >> 6 == 3 { 1 } else { 2 }, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_rate_channels_and_length() {
        let of = |head: [u8; 4]| frame(&head).map(|f| (f.sample_rate, f.channels, f.samples));
        assert_eq!(of([0xff, 0xfb, 0x90, 0x00]), Some((44_100, 2, 1152)));
        assert_eq!(of([0xff, 0xfb, 0x94, 0xc0]), Some((48_000, 1, 1152)));
        assert_eq!(of([0xff, 0xf3, 0x88, 0xc0]), Some((16_000, 1, 576)), "MPEG-2");
        assert_eq!(of([0xff, 0xe3, 0x88, 0xc0]), Some((8_000, 1, 576)), "MPEG-2.5");
        assert_eq!(of([0xff, 0xfd, 0x90, 0x00]), None, "layer II");
        assert_eq!(of([0xff, 0xfb, 0x9c, 0x00]), None, "a reserved rate");
        assert_eq!(of([0xff, 0xeb, 0x90, 0x00]), None, "a reserved version");
        assert_eq!(frame(&[0xff, 0xfb, 0x90]), None);
    }
}
