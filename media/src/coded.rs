//! How large the pictures of a feed are as they are coded, from its headers alone: a few bytes can announce a
//! picture that takes gigabytes to decode, and cropping can hide it.

use crest_core::codec::{VideoCodec, VideoConfig};

use crate::bitstream::{av1, h264, hevc};
use crate::mp4::entry;

/// NAL unit types of sequence parameter sets.
const H264_SPS: u8 = 7;
const H265_SPS: u8 = 33;

/// What headers announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// No size.
    Nothing,
    /// The largest width and the largest height, in pixels, before cropping.
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Something that cannot be read: a decoder may understand it otherwise.
    Unreadable,
}

impl Announced {
    /// What both announce together.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unreadable, _) | (_, Self::Unreadable) => Self::Unreadable,
            (Self::Nothing, only) | (only, Self::Nothing) => only,
            (Self::Size { width, height }, Self::Size { width: w, height: h }) => {
                Self::Size { width: width.max(w), height: height.max(h) }
            }
        }
    }
}

/// Reads the headers of a feed's pictures, under one configuration.
#[derive(Debug, Clone)]
pub struct PictureHeaders {
    codec: VideoCodec,
    /// Bytes of the length before each NAL unit.
    length_size: usize,
    announced: Announced,
}

impl PictureHeaders {
    /// Reads a decoder configuration.
    pub fn of(config: &VideoConfig) -> Self {
        let record = config.record.as_ref();
        let (lengths, announced) = match config.codec {
            VideoCodec::H264 => (record.get(4), avcc(record)),
            VideoCodec::H265 => (record.get(21), hvcc(record)),
            VideoCodec::Av1 => {
                let sequence = av1::sequence(&av1::units_of(&config.record));
                let size = sequence.map(|sequence| size((sequence.width, sequence.height)));
                (None, said(config).zip(size).map(|(said, size)| said.and(size)).or(size).or(said(config)))
            }
            // Their keyframes say it; this is what whoever took the feed was told.
            VideoCodec::Vp9 | VideoCodec::Vp8 => (None, said(config)),
        };
        let length_size = lengths.map_or(4, |byte| usize::from(byte & 3) + 1);
        Self { codec: config.codec, length_size, announced: announced.unwrap_or(Announced::Unreadable) }
    }

    /// What the configuration announces.
    pub fn announced(&self) -> Announced {
        self.announced
    }

    /// What an access unit announces anew: parameter sets may come along with any picture.
    pub fn within(&self, unit: &[u8]) -> Announced {
        match self.codec {
            // libavcodec takes an access unit that looks like an `avcC` record for one.
            VideoCodec::H264 if matches!(unit, [1, _, 0, _, 0xfc..=0xff, _, _, _, 0x67, ..]) => {
                return Announced::Unreadable;
            }
            VideoCodec::H264 | VideoCodec::H265 => {}
            VideoCodec::Av1 | VideoCodec::Vp9 | VideoCodec::Vp8 => {
                return entry::size_in(self.codec, unit).map_or(Announced::Nothing, size);
            }
        }
        let (mut rest, mut announced) = (unit, Announced::Nothing);
        while !rest.is_empty() {
            let unit = rest.split_at_checked(self.length_size).and_then(|(length, rest)| {
                let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
                rest.split_at_checked(length)
            });
            let Some((unit, after)) = unit else { return Announced::Unreadable };
            announced = announced.and(nal(self.codec, unit));
            rest = after;
        }
        announced
    }
}

fn said(config: &VideoConfig) -> Option<Announced> {
    let (width, height) = (config.width, config.height);
    Some(if width > 0 && height > 0 { Announced::Size { width, height } } else { Announced::Nothing })
}

/// What a NAL unit announces.
fn nal(codec: VideoCodec, unit: &[u8]) -> Announced {
    let Some(first) = unit.first() else { return Announced::Nothing };
    let found = match codec {
        VideoCodec::H264 if first & 0x1f == H264_SPS => h264::parse(unit).map(|sps| sps.coded),
        VideoCodec::H265 if first >> 1 & 0x3f == H265_SPS => hevc::parse(unit).map(|sps| sps.coded),
        _ => return Announced::Nothing,
    };
    found.map_or(Announced::Unreadable, size)
}

fn size((width, height): (u32, u32)) -> Announced {
    Announced::Size { width, height }
}

/// The parameter sets of an `avcC` record: sequence sets, then picture sets, where a decoder looks for others too.
fn avcc(record: &[u8]) -> Option<Announced> {
    let &[1, _, _, _, _, counts, ref rest @ ..] = record else { return None };
    let (announced, rest) = sets(VideoCodec::H264, rest, u16::from(counts & 0x1f), Announced::Nothing)?;
    let (&counts, rest) = rest.split_first()?;
    sets(VideoCodec::H264, rest, u16::from(counts), announced).map(|(announced, _)| announced)
}

/// The parameter sets of an `hvcC` record.
fn hvcc(record: &[u8]) -> Option<Announced> {
    let (&arrays, mut rest) = record.get(22..)?.split_first()?;
    let mut announced = Announced::Nothing;
    for _ in 0..arrays {
        let &[_, high, low, ref units @ ..] = rest else { return None };
        (announced, rest) = sets(VideoCodec::H265, units, u16::from_be_bytes([high, low]), announced)?;
    }
    Some(announced)
}

/// Reads NAL units, each after its length in two bytes; returns what follows them.
fn sets(codec: VideoCodec, mut rest: &[u8], count: u16, mut announced: Announced) -> Option<(Announced, &[u8])> {
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        announced = announced.and(nal(codec, unit));
        rest = after;
    }
    Some((announced, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// 1920x1080 as x265 codes it.
    const FULL_HD_H265: [u8; 40] = [
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x78,
        0xa0, 0x03, 0xc0, 0x80, 0x11, 0x07, 0xcb, 0x96, 0xb4, 0xa4, 0x25, 0x92, 0xe3, 0x01, 0x6a, 0x02, 0x02, 0x02,
        0x08, 0x00, 0x00, 0x03,
    ];

    fn size(width: u32, height: u32) -> Announced {
        Announced::Size { width, height }
    }

    fn config(codec: VideoCodec, record: Vec<u8>) -> VideoConfig {
        VideoConfig { codec, record: Bytes::from(record), width: 0, height: 0 }
    }

    fn prefixed(unit: &[u8]) -> Vec<u8> {
        [&u16::try_from(unit.len()).unwrap().to_be_bytes(), unit].concat()
    }

    fn avcc(sequence: &[&[u8]], picture: &[&[u8]]) -> Vec<u8> {
        let mut record = vec![1, 66, 0, 30, 0xff, 0xe0 | u8::try_from(sequence.len()).unwrap()];
        sequence.iter().for_each(|unit| record.extend(prefixed(unit)));
        record.push(u8::try_from(picture.len()).unwrap());
        picture.iter().for_each(|unit| record.extend(prefixed(unit)));
        record
    }

    /// A baseline set of so many macroblocks, in order: no cropping, one reference.
    fn sps(across: u32, down: u32, crop: u32) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        let mut put = |value: u32, count: u32| bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        put(66, 8);
        put(30, 16);
        let golomb = |put: &mut dyn FnMut(u32, u32), value: u32| {
            let len = (value + 1).ilog2();
            put(0, len);
            put(value + 1, len + 1);
        };
        for value in [0, 0, 2, 1] {
            golomb(&mut put, value);
        }
        put(0, 1);
        golomb(&mut put, across - 1);
        golomb(&mut put, down - 1);
        put(0b111, 3);
        for value in [0, crop, 0, crop] {
            golomb(&mut put, value);
        }
        put(1, 1);
        let bytes =
            bits.chunks(8).map(|c| c.iter().enumerate().fold(0, |byte, (i, bit)| byte | u8::from(*bit) << (7 - i)));
        std::iter::once(0x67).chain(bytes).collect()
    }

    fn unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&u32::try_from(nal.len()).unwrap().to_be_bytes(), *nal].concat()).collect()
    }

    #[test]
    fn the_coded_size_counts_whatever_is_cropped() {
        let plain = PictureHeaders::of(&config(VideoCodec::H264, avcc(&[&sps(20, 12, 0)], &[&[0x68, 0xce]])));
        assert_eq!(plain.announced(), size(320, 192));
        // 16384 x 16384, of which 16 x 16 are shown.
        let hidden = sps(1024, 1024, 8184);
        assert_eq!(h264::parse(&hidden).unwrap().size, Some((16, 16)));
        let hidden = PictureHeaders::of(&config(VideoCodec::H264, avcc(&[&hidden], &[])));
        assert_eq!(hidden.announced(), size(16384, 16384));
        // More than any picture has.
        let beyond = PictureHeaders::of(&config(VideoCodec::H264, avcc(&[&sps(60_000, 3, 0)], &[])));
        assert_eq!(beyond.announced(), size(960_000, 48));
    }

    #[test]
    fn every_set_counts_wherever_it_lies() {
        let (small, large) = (sps(20, 12, 0), sps(1024, 1024, 0));
        for record in [avcc(&[&small, &large], &[]), avcc(&[&small], &[&large])] {
            assert_eq!(PictureHeaders::of(&config(VideoCodec::H264, record)).announced(), size(16384, 16384));
        }
        let headers = PictureHeaders::of(&config(VideoCodec::H264, avcc(&[&small], &[])));
        assert_eq!(headers.within(&unit(&[&[0x65, 1, 2]])), Announced::Nothing);
        assert_eq!(headers.within(&unit(&[&[9, 0xf0], &large, &[0x65, 1, 2]])), size(16384, 16384));
        assert_eq!(headers.within(&unit(&[&large, &small])), size(16384, 16384));
        assert_eq!(headers.within(&unit(&[&[0x67], &[0x65]])), Announced::Unreadable);
        assert_eq!(headers.within(&[0, 0, 0, 9, 0x65]), Announced::Unreadable);
        let record = avcc(&[&large], &[]);
        assert_eq!(headers.within(&record), Announced::Unreadable, "a record in place of a picture");
    }

    #[test]
    fn h265_is_read_too_and_what_cannot_be_read_is_said_to_be_so() {
        let array = [&[0xa1, 0, 1][..], &prefixed(&FULL_HD_H265)].concat();
        let mut record = [&[1_u8; 22][..], &[1], &array].concat();
        record[21] = 3;
        let headers = PictureHeaders::of(&config(VideoCodec::H265, record.clone()));
        assert_eq!(headers.announced(), size(1920, 1088));
        assert_eq!(headers.within(&unit(&[&FULL_HD_H265])), size(1920, 1088));
        for record in [record[..30].to_vec(), Vec::new(), b"nonsense".to_vec()] {
            assert_eq!(PictureHeaders::of(&config(VideoCodec::H265, record)).announced(), Announced::Unreadable);
        }
        assert_eq!(
            PictureHeaders::of(&config(VideoCodec::H264, b"nonsense".to_vec())).announced(),
            Announced::Unreadable
        );
    }
}
