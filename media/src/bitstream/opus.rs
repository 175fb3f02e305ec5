//! Opus packets and their configuration record (RFC 6716, 3.1; RFC 7845, 5.1; "Encapsulation of Opus in ISO Base Media
//! File Format", 4.3.2).

use bytes::Bytes;

/// Opus is counted in samples at this rate, whatever its source had.
pub const RATE: u32 = 48_000;

/// Samples of one packet at [`RATE`]; `None` where it is empty or lasts longer than a packet may (120 ms).
pub fn samples(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let frame: u32 = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    Some(frame * count).filter(|samples| (1..=5760).contains(samples))
}

/// The payload of `dOps` for mono or stereo that comes without any record.
pub fn record(channels: u8) -> Bytes {
    let [r0, r1, r2, r3] = RATE.to_be_bytes();
    vec![0, channels.clamp(1, 2), 0, 0, r0, r1, r2, r3, 0, 0, 0].into()
}

/// The payload of `dOps` that says what an `OpusHead` says; `None` where that is broken.
pub fn record_of_head(head: &[u8]) -> Option<Bytes> {
    let head = head.strip_prefix(b"OpusHead")?;
    let &[version, channels, s0, s1, r0, r1, r2, r3, g0, g1, family, ref table @ ..] = head else { return None };
    if version >> 4 != 0 {
        return None;
    }
    // Little-endian there, big-endian here.
    let mut record = vec![0, channels, s1, s0, r3, r2, r1, r0, g1, g0, family];
    if family != 0 {
        record.extend_from_slice(table.get(..2 + usize::from(channels))?);
    }
    channels_of(&record)?;
    Some(record.into())
}

/// Channels that the payload of a `dOps` names; `None` where it is broken.
pub fn channels_of(record: &[u8]) -> Option<u16> {
    let layout = layout(record)?;
    Some(u16::from(layout.channels))
}

/// Which streams a packet holds, and which of them makes which channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout<'a> {
    pub channels: u8,
    pub family: u8,
    pub streams: u8,
    pub coupled: u8,
    /// Per channel, the decoded one that feeds it; empty for family 0.
    pub mapping: &'a [u8],
}

pub(crate) fn layout(record: &[u8]) -> Option<Layout<'_>> {
    let &[0, channels, _, _, _, _, _, _, _, _, family, ref table @ ..] = record else { return None };
    if family == 0 {
        let coupled = channels.checked_sub(1).filter(|coupled| *coupled <= 1)?;
        return Some(Layout { channels, family, streams: 1, coupled, mapping: &[] });
    }
    let (&[streams, coupled], mapping) = table.split_first_chunk::<2>()?;
    let mapping = mapping.get(..usize::from(channels))?;
    let decoded = u16::from(streams) + u16::from(coupled);
    let known = |from: &u8| *from == 255 || u16::from(*from) < decoded;
    let sound = channels > 0 && streams > 0 && coupled <= streams && decoded <= 255 && mapping.iter().all(known);
    sound.then_some(Layout { channels, family, streams, coupled, mapping })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_lasts_what_its_first_byte_says() {
        // CELT, fullband, 20 ms: one frame, two frames, three frames.
        assert_eq!(samples(&[0xf8, 0]), Some(960));
        assert_eq!(samples(&[0xf9, 0]), Some(1920));
        assert_eq!(samples(&[0xfb, 0x03]), Some(2880));
        assert_eq!(samples(&[0x18, 0]), Some(2880), "SILK, 60 ms");
        assert_eq!(samples(&[0x60, 0]), Some(480), "hybrid, 10 ms");
        assert_eq!(samples(&[0xe0, 0]), Some(120), "2.5 ms");
        assert_eq!(samples(&[0xfb, 0x3f]), None, "longer than 120 ms");
        assert_eq!(samples(&[0xfb, 0x40]), None, "no frame");
        assert_eq!(samples(&[0xfb]), None);
        assert_eq!(samples(&[]), None);
    }

    #[test]
    fn a_head_becomes_a_record() {
        let head = [&b"OpusHead"[..], &[1, 2, 0x38, 1, 0x80, 0xbb, 0, 0, 0xfe, 0xff, 0]].concat();
        let record = record_of_head(&head).unwrap();
        assert_eq!(record.as_ref(), [0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0xff, 0xfe, 0]);
        assert_eq!(channels_of(&record), Some(2));
        let mut surround = head.clone();
        (surround[9], surround[18]) = (6, 1);
        assert_eq!(record_of_head(&surround), None, "without its table");
        surround.extend([4, 2, 0, 4, 1, 2, 3, 5]);
        assert_eq!(channels_of(&record_of_head(&surround).unwrap()), Some(6));
        surround[19] = 0;
        assert_eq!(record_of_head(&surround), None, "no streams");
        assert!((0..head.len()).all(|length| record_of_head(&head[..length]).is_none()));
    }
}
