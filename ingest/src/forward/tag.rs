//! What is relayed: messages as the publisher sent them, and what has to be known of them.

use bytes::Bytes;

use crate::rtmp::message::{AUDIO, DATA, VIDEO};

/// Headers that are kept: two for each of some tracks, and the metadata.
const HEADERS: usize = 32;
/// The longest header; they are some hundred bytes.
const HEADER_BYTES: usize = 64 * 1024;

/// One message of a publisher. Cloning it copies no media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    /// The RTMP message type.
    pub(super) kind: u8,
    /// The publisher's own, in milliseconds; wraps after 49 days.
    pub(super) timestamp: u32,
    /// The FLV tag body.
    pub(super) body: Bytes,
}

/// What a header is about; a later one replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    kind: u8,
    packet: u8,
    track: u8,
}

/// What a message means to whoever begins to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It has to be known before the first picture or sound.
    Header(Slot),
    /// Decoding can begin here.
    Keyframe,
    /// All else.
    Rest,
}

impl Tag {
    /// What it is, from its first bytes (FLV 10.1 E.4.2 and E.4.3; Enhanced RTMP v2 for extended headers).
    pub(super) fn role(&self) -> Role {
        let header = |packet, track| match self.body.len() {
            0..=HEADER_BYTES => Role::Header(Slot { kind: self.kind, packet, track }),
            _ => Role::Rest,
        };
        let first = self.body.first().copied().unwrap_or_default();
        let second = self.body.get(1).copied();
        match self.kind {
            DATA if describes(&self.body) => header(0, 0),
            // Enhanced: packet type 0 configures, 4 describes colours or channels, 1 and 3 are frames.
            VIDEO if first & 0x80 != 0 => match extended(&self.body, 6) {
                Some((packet @ (0 | 4), track)) => header(packet, track),
                Some((1 | 3, 0)) if first >> 4 & 7 == 1 => Role::Keyframe,
                _ => Role::Rest,
            },
            AUDIO if first >> 4 == 9 => match extended(&self.body, 5) {
                Some((packet @ (0 | 4), track)) => header(packet, track),
                _ => Role::Rest,
            },
            VIDEO if first & 0x0f == 7 && second == Some(0) => header(0, 0),
            VIDEO if first >> 4 == 1 && (first & 0x0f != 7 || second == Some(1)) => Role::Keyframe,
            AUDIO if first >> 4 == 10 && second == Some(0) => header(0, 0),
            _ => Role::Rest,
        }
    }
}

/// The packet type and the first track of an extended header; `multitrack` is the type of several tracks.
fn extended(body: &[u8], multitrack: u8) -> Option<(u8, u8)> {
    const MOD_EX: u8 = 7;
    const MANY_CODECS: u8 = 2;
    let mut at = 1;
    let mut packet = body.first()? & 0x0f;
    while packet == MOD_EX {
        let size = match *body.get(at)? {
            255 => {
                at += 2;
                usize::from(*body.get(at - 1)?) << 8 | usize::from(*body.get(at)?)
            }
            size => usize::from(size),
        };
        // The size is one less than the bytes there are.
        at += 1 + size + 1;
        packet = body.get(at)? & 0x0f;
        at += 1;
    }
    if packet != multitrack {
        return Some((packet, 0));
    }
    let head = *body.get(at)?;
    // The codec of all tracks comes before the first, or each has its own before it: four bytes either way.
    let track = if head >> 4 <= MANY_CODECS { *body.get(at + 5)? } else { return None };
    Some((head & 0x0f, track))
}

/// Whether a data message is `onMetaData`, as it is stored or as it is published.
fn describes(body: &[u8]) -> bool {
    const STORED: &[u8] = b"\x02\x00\x0aonMetaData";
    const PUBLISHED: &[u8] = b"\x02\x00\x0d@setDataFrame";
    body.strip_prefix(PUBLISHED).unwrap_or(body).starts_with(STORED)
}

/// What a server has to have before the first picture: the latest of each, in the order in which they came first.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers(Vec<(Slot, Tag)>);

impl Headers {
    /// Keeps what is to be sent again to whoever begins later.
    pub(super) fn note(&mut self, tag: &Tag) {
        let Role::Header(slot) = tag.role() else { return };
        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| *known == slot) {
            known.clone_from(tag);
        } else if self.0.len() < HEADERS {
            self.0.push((slot, tag.clone()));
        }
    }

    /// Whether there are pictures to wait for.
    pub(super) fn has_video(&self) -> bool {
        self.0.iter().any(|(slot, _)| slot.kind == VIDEO)
    }

    /// All of them, to be sent with the timestamp of what follows.
    pub(super) fn at(&self, timestamp: u32) -> impl Iterator<Item = Tag> {
        self.0.iter().map(move |(_, tag)| Tag { timestamp, ..tag.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(kind: u8, body: &'static [u8]) -> Role {
        Tag { kind, timestamp: 0, body: Bytes::from_static(body) }.role()
    }

    #[test]
    fn headers_and_keyframes_are_known_in_every_form() {
        let header = |kind, packet, track| Role::Header(Slot { kind, packet, track });
        for (kind, body, expected) in [
            (DATA, b"\x02\x00\x0aonMetaData\x08".as_slice(), header(DATA, 0, 0)),
            (DATA, b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x08", header(DATA, 0, 0)),
            (DATA, b"\x02\x00\x0aonTextData\x08", Role::Rest),
            (VIDEO, &[0x17, 0, 0, 0, 0, 1], header(VIDEO, 0, 0)),
            (VIDEO, &[0x17, 1, 0, 0, 0, 9], Role::Keyframe),
            (VIDEO, &[0x27, 1, 0, 0, 0, 9], Role::Rest),
            (VIDEO, &[0x17, 2, 0, 0, 0], Role::Rest),
            (VIDEO, &[0x57, 0], header(VIDEO, 0, 0)),
            (VIDEO, b"\x90hvc1\x01", header(VIDEO, 0, 0)),
            (VIDEO, b"\x94hvc1\x01", header(VIDEO, 4, 0)),
            (VIDEO, b"\x93hvc1\x01", Role::Keyframe),
            (VIDEO, b"\xa1hvc1\x01", Role::Rest),
            // An offset in nanoseconds, three bytes of it, before the frame.
            (VIDEO, b"\x97\x02abc\x01hvc1\x01", Role::Keyframe),
            (VIDEO, b"\x97\xff\x00\x02abc\x00hvc1\x01", header(VIDEO, 0, 0)),
            (VIDEO, b"\x96\x01avc1\x00", Role::Keyframe),
            (VIDEO, b"\x96\x01avc1\x01", Role::Rest),
            (VIDEO, b"\x96\x20avc1\x02", header(VIDEO, 0, 2)),
            (VIDEO, b"\x97\x02a", Role::Rest),
            (AUDIO, &[0xaf, 0, 0x12], header(AUDIO, 0, 0)),
            (AUDIO, &[0xaf, 1, 0x12], Role::Rest),
            (AUDIO, b"\x90Opus", header(AUDIO, 0, 0)),
            (AUDIO, b"\x91Opus", Role::Rest),
            (AUDIO, b"\x95\x00Opus\x01", header(AUDIO, 0, 1)),
            (AUDIO, &[], Role::Rest),
            (VIDEO, &[], Role::Rest),
        ] {
            assert_eq!(role(kind, body), expected, "{kind} {body:?}");
        }
    }
}
