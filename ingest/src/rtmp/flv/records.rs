//! Decoder configuration records, checked as far as others rely on them.

/// Checks an `avcC` record as far as others rely on it, and returns its NAL length size.
pub(super) fn avc_length_size(record: &[u8]) -> Option<usize> {
    let &[1, _, _, _, lengths, counts, ref sets @ ..] = record else { return None };
    let length_size = usize::from(lengths & 0x03) + 1;
    let sequence_sets = counts & 0x1f;
    if length_size == 3 || sequence_sets == 0 {
        return None;
    }
    let mut rest = sets;
    for _ in 0..sequence_sets {
        rest = parameter_set(rest, 7)?;
    }
    let (&picture_sets, mut rest) = rest.split_first()?;
    for _ in 0..picture_sets {
        rest = parameter_set(rest, 8)?;
    }
    Some(length_size)
}

/// Steps over one length-prefixed NAL unit of type `nal_type`.
fn parameter_set(bytes: &[u8], nal_type: u8) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (unit, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    (unit.first()? & 0x1f == nal_type && unit.len() >= 2).then_some(rest)
}

/// Checks an `hvcC` record as far as others rely on it, and returns its NAL length size.
pub(super) fn hevc_length_size(record: &[u8]) -> Option<usize> {
    const SEQUENCE_SET: u8 = 33;
    const PICTURE_SET: u8 = 34;
    let (head, mut rest) = record.split_first_chunk::<23>()?;
    let (version, lengths, arrays) = (head[0], head[21], head[22]);
    let length_size = usize::from(lengths & 0x03) + 1;
    if version != 1 || length_size == 3 {
        return None;
    }
    let mut found = [false; 2];
    for _ in 0..arrays {
        let (&[kind, n0, n1], mut sets) = rest.split_first_chunk::<3>()?;
        for _ in 0..u16::from_be_bytes([n0, n1]) {
            let (length, after) = sets.split_first_chunk::<2>()?;
            let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            if unit.len() < 3 || unit.first()? >> 1 & 0x3f != kind & 0x3f {
                return None;
            }
            found[0] |= kind & 0x3f == SEQUENCE_SET;
            found[1] |= kind & 0x3f == PICTURE_SET;
            sets = after;
        }
        rest = sets;
    }
    (found == [true; 2]).then_some(length_size)
}

/// Whether length-prefixed NAL units fill the payload exactly.
pub(super) fn nal_units_fit(mut payload: &[u8], length_size: usize) -> bool {
    while !payload.is_empty() {
        let Some((prefix, rest)) = payload.split_at_checked(length_size) else { return false };
        let length = prefix.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte));
        let Some((_, rest)) = rest.split_at_checked(length) else { return false };
        payload = rest;
    }
    true
}

/// Sample rate and channels of an AudioSpecificConfig.
pub(super) fn aac_format(record: &[u8]) -> Option<(u32, u16)> {
    const RATES: [u32; 13] =
        [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
    let mut bits = Bits { bytes: record, at: 0 };
    let object_type = match bits.take(5)? {
        31 => 32 + bits.take(6)?,
        other => other,
    };
    if object_type == 0 {
        return None;
    }
    let rate = match bits.take(4)? {
        15 => bits.take(24)?,
        index => *RATES.get(usize::try_from(index).ok()?)?,
    };
    let channels = match bits.take(4)? {
        // Told in a program config element; stereo is what is sent in practice.
        0 => 2,
        count @ 1..=6 => u16::try_from(count).ok()?,
        7 | 12 | 14 => 8,
        11 => 7,
        _ => return None,
    };
    (7_350..=96_000).contains(&rate).then_some((rate, channels))
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = (value << 1) | u32::from((byte >> (7 - self.at % 8)) & 1);
            self.at += 1;
        }
        Some(value)
    }
}
