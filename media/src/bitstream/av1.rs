//! AV1 temporal units and the configuration record (`av1C`) that containers want.
//!
//! Sources: "AV1 Bitstream & Decoding Process Specification" 5.3 to 5.9; "AV1 Codec ISO Media File Format Binding" 2.3
//! and 2.4.

use bytes::Bytes;

use super::bits::{Bits, side};

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
/// Open bitstream units of a temporal unit that are looked at; more is not a picture.
const MAX_UNITS: usize = 512;
/// Marker and version that begin a record.
const VERSION: u8 = 0x81;
/// Bytes of a record before its open bitstream units.
const RECORD: usize = 4;

/// An open bitstream unit.
#[derive(Debug, Clone, Copy)]
struct Unit<'a> {
    kind: u8,
    /// With its header.
    whole: &'a [u8],
    payload: &'a [u8],
}

/// Splits off the first unit; the last of a sample may leave its size out.
fn split(data: &[u8]) -> Option<(Unit<'_>, &[u8])> {
    let &head = data.first()?;
    if head & 0x80 != 0 {
        return None;
    }
    let mut at = if head & 4 == 0 { 1 } else { 2 };
    let mut length = data.len().checked_sub(at)?;
    if head & 2 != 0 {
        length = 0;
        for place in 0.. {
            let byte = *data.get(at)?;
            at += 1;
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
            if place == 3 {
                return None;
            }
        }
    }
    let (whole, rest) = data.split_at_checked(at.checked_add(length)?)?;
    Some((Unit { kind: head >> 3 & 15, whole, payload: whole.get(at..)? }, rest))
}

fn units(data: &[u8]) -> impl Iterator<Item = Unit<'_>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (unit, after) = split(rest)?;
        rest = after;
        Some(unit)
    })
    .take(MAX_UNITS)
}

/// Whether a temporal unit is open bitstream units to its last byte, and at least one.
pub fn is_chain(unit: &[u8]) -> bool {
    let mut rest = unit;
    while let Some((_, after)) = split(rest) {
        rest = after;
        if rest.is_empty() {
            return true;
        }
    }
    false
}

/// A temporal unit without the delimiters that it begins with: containers leave them out.
pub fn without_delimiters(unit: &Bytes) -> Bytes {
    let mut unit = unit.clone();
    while let Some(length) =
        split(&unit).filter(|(first, _)| first.kind == TEMPORAL_DELIMITER).map(|(f, _)| f.whole.len())
    {
        unit = unit.slice(length..);
    }
    unit
}

/// Whether decoding can start at this temporal unit: its first frame is a keyframe that is shown.
pub fn is_keyframe(unit: &[u8]) -> bool {
    let mut still = false;
    for unit in units(unit) {
        match unit.kind {
            SEQUENCE_HEADER => still = Sequence::parse(unit.payload).is_some_and(|sequence| sequence.still),
            FRAME_HEADER | FRAME => {
                // `show_existing_frame` 0, `frame_type` 0, `show_frame` 1; a still picture says none of it.
                return still || unit.payload.first().is_some_and(|byte| byte >> 4 == 1);
            }
            _ => {}
        }
    }
    false
}

/// What a sequence header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// The largest width of a frame, in pixels.
    pub width: u32,
    /// The largest height of a frame, in pixels.
    pub height: u32,
    /// `reduced_still_picture_header`.
    still: bool,
    profile: u8,
    level: u8,
    /// The third byte of a record: tier, depth, sampling.
    format: u8,
}

/// The first sequence header in open bitstream units; `None` where there is none that can be read.
pub fn sequence(data: &[u8]) -> Option<Sequence> {
    units(data).find(|unit| unit.kind == SEQUENCE_HEADER).and_then(|unit| Sequence::parse(unit.payload))
}

/// The open bitstream units in a record.
pub fn units_of(record: &Bytes) -> Bytes {
    record.slice(RECORD.min(record.len())..)
}

/// Whether a record can be one: its version, and what it holds is open bitstream units.
pub fn is_record(record: &[u8]) -> bool {
    record.len() >= RECORD
        && record.first() == Some(&VERSION)
        && record.get(3).is_some_and(|delay| delay >> 5 == 0)
        && record.get(RECORD..).is_some_and(|units| units.is_empty() || is_chain(units))
}

/// The payload of `av1C` for the track that begins with this temporal unit; `None` where it holds no sequence header.
pub fn record(unit: &[u8]) -> Option<Bytes> {
    let header = units(unit).find(|unit| unit.kind == SEQUENCE_HEADER)?;
    let sequence = Sequence::parse(header.payload)?;
    let head = [VERSION, sequence.profile << 5 | sequence.level, sequence.format, 0];
    // In a record each unit says its size.
    (header.whole.first()? & 2 != 0).then(|| Bytes::from([&head[..], header.whole].concat()))
}

impl Sequence {
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(payload);
        let profile = bits.take(3)?;
        bits.skip(1)?; // still picture
        let still = bits.flag()?;
        let (level, tier) = if still { (bits.take(5)?, false) } else { operating_points(&mut bits)? };
        let (across, down) = (bits.take(4)? as usize + 1, bits.take(4)? as usize + 1);
        let (width, height) = (u64::from(bits.take(across)?) + 1, u64::from(bits.take(down)?) + 1);
        if !still && bits.flag()? {
            bits.skip(4 + 3)?; // lengths of frame ids
        }
        bits.skip(3)?; // large superblocks, filter-intra, intra edge filter
        if !still {
            tools(&mut bits)?;
        }
        bits.skip(3)?; // super-resolution, directional enhancement, restoration
        let format = u8::from(tier) << 7 | colour(&mut bits, profile)?;
        let narrow = |value: u32| u8::try_from(value).ok();
        Some(Self {
            width: side(width)?,
            height: side(height)?,
            still,
            profile: narrow(profile)?,
            level: narrow(level)?,
            format,
        })
    }
}

/// Timing and operating points: level and tier of the first one.
fn operating_points(bits: &mut Bits<'_>) -> Option<(u32, bool)> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?; // units of a tick, time scale
        if bits.flag()? {
            bits.golomb()?; // ticks of a picture
        }
        if bits.flag()? {
            delay_bits = Some(bits.take(5)? as usize + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let has_display_delay = bits.flag()?;
    let points = bits.take(5)? + 1;
    let mut first = None;
    for _ in 0..points {
        bits.skip(12)?;
        let level = bits.take(5)?;
        let tier = level > 7 && bits.flag()?;
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_display_delay && bits.flag()? {
            bits.skip(4)?;
        }
        first.get_or_insert((level, tier));
    }
    first
}

/// Steps over the coding tools of a sequence that is no still picture.
fn tools(bits: &mut Bits<'_>) -> Option<()> {
    bits.skip(4)?; // compound modes, warped motion, dual filter
    let order_hint = bits.flag()?;
    if order_hint {
        bits.skip(2)?;
    }
    let screen_content = bits.flag()? || bits.flag()?;
    if screen_content && !bits.flag()? {
        bits.skip(1)?; // integer motion vectors
    }
    bits.skip(if order_hint { 3 } else { 0 })
}

/// Depth and sampling as the third byte of a record says them, without the tier.
fn colour(bits: &mut Bits<'_>, profile: u32) -> Option<u8> {
    let high = bits.flag()?;
    let twelve = profile == 2 && high && bits.flag()?;
    let mono = profile != 1 && bits.flag()?;
    let description = if bits.flag()? { [bits.take(8)?, bits.take(8)?, bits.take(8)?] } else { [2; 3] };
    let (x, y, position) = if mono {
        (true, true, 0)
    } else if description == [1, 13, 0] {
        (false, false, 0)
    } else {
        bits.skip(1)?; // range
        let (x, y) = match profile {
            0 => (true, true),
            1 => (false, false),
            _ if twelve => {
                let x = bits.flag()?;
                (x, x && bits.flag()?)
            }
            _ => (true, false),
        };
        (x, y, if x && y { u8::try_from(bits.take(2)?).ok()? } else { 0 })
    };
    let flags = [high, twelve, mono, x, y].into_iter().fold(0, |byte, flag| byte << 1 | u8::from(flag));
    Some(flags << 2 | position)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The sequence header of a file of 160x120 by libaom, with its header and size.
    const HEADER: [u8; 12] = [0x0a, 0x0a, 0x00, 0x00, 0x00, 0x03, 0xb4, 0xff, 0x73, 0x6b, 0xe4, 0x01];

    #[test]
    fn units_are_told_apart() {
        let delimiter = [0x12, 0];
        let key = [0x32, 2, 0x10, 0];
        let inter = [0x32, 2, 0x30, 0];
        let unit = Bytes::from([&delimiter[..], &HEADER, &key].concat());
        assert!(is_keyframe(&unit) && is_chain(&unit));
        assert_eq!(without_delimiters(&unit).as_ref(), &unit[2..]);
        assert_eq!(without_delimiters(&unit.slice(..2)).len(), 0);
        assert!(!is_keyframe(&inter) && !is_keyframe(&HEADER));
        assert!(is_chain(&[0x30, 0x10, 0]), "the last unit may leave its size out");
        assert!(!is_chain(&unit[..unit.len() - 1]) && !is_chain(&[]) && !is_chain(&[0x80]));
        assert!(!is_chain(&[0x32, 0xff, 0xff, 0xff, 0xff, 0xff]), "a size that never ends");
    }

    #[test]
    fn a_sequence_header_becomes_a_record() {
        let found = sequence(&HEADER).unwrap();
        assert_eq!((found.width, found.height), (160, 120));
        let record = record(&HEADER).unwrap();
        assert_eq!(record[..4], [0x81, 0, 0x0c, 0]);
        assert!(is_record(&record));
        assert_eq!(units_of(&record).as_ref(), HEADER);
        assert!((2..8).all(|length| sequence(&HEADER[..length]).is_none()));
        assert!(!is_record(&record[..3]) && !is_record(&[0x01, 0, 0, 0]) && !is_record(&[0x81, 0, 0, 0, 0xff]));
    }
}
