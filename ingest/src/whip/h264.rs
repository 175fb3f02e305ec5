//! H.264 as WebRTC carries it -> access units as `core::codec` has them: NAL units behind their lengths, the
//! parameter sets apart (ISO/IEC 14496-15, 5.3).

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

const IDR: u8 = 5;
const SEQUENCE_SET: u8 = 7;
const PICTURE_SET: u8 = 8;
const DELIMITER: u8 = 9;
const FILLER: u8 = 12;
/// Ids of sequence and of picture parameter sets are below these.
const SEQUENCE_IDS: u32 = 32;
const PICTURE_IDS: u32 = 256;

/// An access unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AccessUnit {
    /// Its NAL units, each behind four bytes of length.
    pub(super) data: Bytes,
    /// Whether decoding can start here.
    pub(super) keyframe: bool,
}

/// The parameter sets in force.
#[derive(Debug, Default)]
pub(super) struct ParameterSets {
    sequence: BTreeMap<u32, Bytes>,
    picture: BTreeMap<u32, Bytes>,
}

impl ParameterSets {
    /// Reads an access unit in the byte stream format (H.264, Annex B) and takes note of its parameter sets.
    /// `None` where it holds no part of a picture.
    pub(super) fn read(&mut self, stream: &[u8]) -> Option<AccessUnit> {
        let mut data = BytesMut::with_capacity(stream.len() + 16);
        let (mut keyframe, mut picture) = (false, false);
        for nal in nal_units(stream) {
            match nal[0] & 0x1f {
                SEQUENCE_SET => note(&mut self.sequence, nal, 4, SEQUENCE_IDS),
                PICTURE_SET => note(&mut self.picture, nal, 1, PICTURE_IDS),
                DELIMITER | FILLER => {}
                kind => {
                    keyframe |= kind == IDR;
                    picture |= (1..=IDR).contains(&kind);
                    data.put_u32(u32::try_from(nal.len()).ok()?);
                    data.put_slice(nal);
                }
            }
        }
        picture.then(|| AccessUnit { data: data.freeze(), keyframe })
    }

    /// The decoder configuration record (ISO/IEC 14496-15, 5.3.3.1); `None` before there are sets of both kinds.
    pub(super) fn record(&self) -> Option<Bytes> {
        let first = self.sequence.values().next()?;
        if self.picture.is_empty() {
            return None;
        }
        let mut record = BytesMut::new();
        record.put_u8(1);
        record.put_slice(first.get(1..4)?);
        record.put_u8(0xff);
        for (sets, reserved, most) in [(&self.sequence, 0xe0, 31), (&self.picture, 0, 255)] {
            let count = sets.len().min(most);
            record.put_u8(reserved | count as u8);
            for set in sets.values().take(count) {
                record.put_u16(u16::try_from(set.len()).ok()?);
                record.put_slice(set);
            }
        }
        Some(record.freeze())
    }
}

/// Parameter sets are some tens of bytes; there may be hundreds of them.
const LONGEST_SET: usize = 4096;

/// Keeps a set under its id, which stands `at` bytes behind the start of the NAL unit; a set without one is broken.
fn note(sets: &mut BTreeMap<u32, Bytes>, nal: &[u8], at: usize, ids: u32) {
    let id = nal.get(at..).and_then(golomb).filter(|id| *id < ids && nal.len() <= LONGEST_SET);
    if let Some(id) = id
        && sets.get(&id).is_none_or(|known| known != nal)
    {
        sets.insert(id, Bytes::copy_from_slice(nal));
    }
}

/// The unsigned Exp-Golomb number that the bytes begin with (H.264, 9.1), if it is less than 2^11.
fn golomb(bytes: &[u8]) -> Option<u32> {
    let word = (0..4).fold(0, |word, at| word << 8 | u32::from(bytes.get(at).copied().unwrap_or(0)));
    let zeros = word.leading_zeros();
    (zeros < 11).then(|| (word >> (31 - 2 * zeros)) - 1)
}

/// The NAL units between the start codes; none is empty.
fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = start_code(stream).map(|at| &stream[at + 3..]);
    std::iter::from_fn(move || {
        let unit = rest?;
        let end = start_code(unit);
        rest = end.map(|at| &unit[at + 3..]);
        Some(&unit[..end.unwrap_or(unit.len())])
    })
    .map(without_trailing_zeros)
    .filter(|nal| !nal.is_empty())
}

/// Where the next start code is: within a NAL unit there is none.
fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|three| three == [0, 0, 1])
}

/// A NAL unit never ends with a zero: those are padding, or the first byte of a start code of four.
fn without_trailing_zeros(nal: &[u8]) -> &[u8] {
    let length = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &nal[..length]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x01, 0x40];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb];

    fn stream(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
    }

    #[test]
    fn a_keyframe_gives_its_parameter_sets_away() {
        let mut sets = ParameterSets::default();
        let unit = sets.read(&stream(&[&[9, 0xf0], SPS, PPS, &[0x06, 5], &[0x65, 1, 2]])).unwrap();
        assert_eq!((unit.data.as_ref(), unit.keyframe), (&[0, 0, 0, 2, 6, 5, 0, 0, 0, 3, 0x65, 1, 2][..], true));
        let record = sets.record().unwrap();
        assert_eq!(record, [&[1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 7], SPS, &[1, 0, 4], PPS].concat());
        let unit = sets.read(&stream(&[&[0x41, 7, 0, 0]])).unwrap();
        assert_eq!(
            (unit.data.as_ref(), unit.keyframe),
            (&[0, 0, 0, 2, 0x41, 7][..], false),
            "padding is no part of it"
        );
        assert_eq!(sets.record().unwrap(), record);
    }

    #[test]
    fn a_set_takes_the_place_of_the_one_with_its_id() {
        let mut sets = ParameterSets::default();
        assert_eq!(sets.read(&stream(&[SPS, PPS])), None, "no picture");
        let wider = [0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x02, 0x80];
        sets.read(&stream(&[&wider, PPS]));
        assert_eq!(
            sets.record().unwrap(),
            [&[1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 7], &wider[..], &[1, 0, 4], PPS].concat()
        );
        // Another id: 2 as 011.
        let second = [0x68, 0x60, 0x83, 0xcb];
        sets.read(&stream(&[&second]));
        let record = sets.record().unwrap();
        assert!(record.ends_with(&[&[2, 0, 4], PPS, &[0, 4], &second[..]].concat()), "{record:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(data in proptest::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..200)) {
            let mut sets = ParameterSets::default();
            let unit = sets.read(&data);
            prop_assert!(unit.is_none_or(|unit| unit.data.len() <= data.len() * 2 + 4));
            sets.record();
        }
    }
}
