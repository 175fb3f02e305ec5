//! The headers that Enhanced RTMP puts before a track's bytes: extensions, several tracks in one message, and the
//! codec as four characters. They are the same for sound and picture but for the numbers of the packet types.

use bytes::Bytes;

use super::{PassedBy, Skip, TagKind};

/// A codec as four characters.
pub(super) type FourCc = [u8; 4];

/// What a message says of the track that is taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Track {
    /// `VideoPacketType` or `AudioPacketType`.
    pub packet: u8,
    pub codec: FourCc,
    /// Nanoseconds that the message's timestamp leaves out.
    pub nanos: u32,
    pub data: Bytes,
}

/// The packet types that differ between sound and picture.
#[derive(Debug, Clone, Copy)]
struct Types {
    multitrack: u8,
    metadata: Option<u8>,
}

const VIDEO: Types = Types { multitrack: 6, metadata: Some(4) };
const AUDIO: Types = Types { multitrack: 5, metadata: None };
const MOD_EX: u8 = 7;
/// `ModEx` type: an offset of the timestamp in nanoseconds.
const NANO_OFFSET: u8 = 0;
/// Offsets from here on are none: they say what is less than a millisecond.
const MILLISECOND: u32 = 1_000_000;
/// Frame type of a command to the decoder.
pub(super) const COMMAND: u8 = 5;

const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_CODECS: u8 = 2;

/// Reads a message up to the bytes of track `wanted`. `frame` is the frame type of a video message, 0 for audio.
pub(super) fn read(
    kind: TagKind,
    frame: u8,
    body: &Bytes,
    wanted: u8,
    passed_by: &mut PassedBy,
) -> Result<Track, Skip> {
    let types = if kind == TagKind::Video { VIDEO } else { AUDIO };
    let mut reader = Reader { body, at: 0 };
    let mut packet = reader.byte()? & 0x0f;
    let mut nanos = 0;
    while packet == MOD_EX {
        let size = match reader.byte()? {
            255 => reader.number(2)? + 1,
            size => u32::from(size) + 1,
        };
        let data = reader.take(size)?;
        let next = reader.byte()?;
        packet = next & 0x0f;
        if next >> 4 == NANO_OFFSET && data.len() >= 3 {
            let offset = data.iter().take(3).fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            nanos = if offset < MILLISECOND { offset } else { 0 };
        }
    }
    if frame == COMMAND && types.metadata != Some(packet) {
        return Err(Skip::NotMedia);
    }
    if packet != types.multitrack {
        let codec = reader.four()?;
        if wanted != 0 {
            passed_by.note(kind, 0);
            return Err(Skip::OtherTrack);
        }
        return Ok(Track { packet, codec, nanos, data: own(reader.rest(), reader.body) });
    }
    let head = reader.byte()?;
    let (form, packet) = (head >> 4, head & 0x0f);
    if form > MANY_CODECS || packet == types.multitrack || packet == MOD_EX {
        return Err(Skip::Malformed);
    }
    let shared = if form == MANY_CODECS { None } else { Some(reader.four()?) };
    let mut found = None;
    while !reader.is_empty() {
        let codec = match shared {
            Some(codec) => codec,
            None => reader.four()?,
        };
        let track = reader.byte()?;
        let data = match form {
            ONE_TRACK => reader.rest(),
            MANY_TRACKS | MANY_CODECS => {
                let size = reader.number(3)?;
                reader.take(size)?
            }
            _ => return Err(Skip::Malformed),
        };
        if track != wanted {
            passed_by.note(kind, track);
        } else if found.is_none() {
            found = Some(Track { packet, codec, nanos, data: own(data, reader.body) });
        }
    }
    found.ok_or(Skip::OtherTrack)
}

/// What is a small part of its message does not keep all of it.
fn own(data: Bytes, message: &Bytes) -> Bytes {
    if data.len() < message.len() / 2 { Bytes::copy_from_slice(&data) } else { data }
}

/// Reads a body from its beginning; every read past the end is `Truncated`.
struct Reader<'a> {
    body: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn is_empty(&self) -> bool {
        self.at >= self.body.len()
    }

    fn take(&mut self, count: u32) -> Result<Bytes, Skip> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count)).ok_or(Skip::Truncated)?;
        if end > self.body.len() {
            return Err(Skip::Truncated);
        }
        let taken = self.body.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn rest(&mut self) -> Bytes {
        let rest = self.body.slice(self.at..);
        self.at = self.body.len();
        rest
    }

    fn byte(&mut self) -> Result<u8, Skip> {
        let byte = *self.body.get(self.at).ok_or(Skip::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// A big-endian number of so many bytes.
    fn number(&mut self, bytes: u32) -> Result<u32, Skip> {
        Ok(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    fn four(&mut self) -> Result<FourCc, Skip> {
        Ok([self.byte()?, self.byte()?, self.byte()?, self.byte()?])
    }
}
