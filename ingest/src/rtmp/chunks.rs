//! The chunk layer (Adobe's RTMP specification 1.0, section 5.3): bytes that a peer sends -> messages, within bounds,
//! and messages -> bytes.
//!
//! Nothing is reserved for what a peer announces beyond an allowance for all of its messages together, and it may
//! begin no more than a few at a time.

use bytes::{Bytes, BytesMut};

use super::message::{ABORT, COMMAND, COMMAND_AMF3, DATA, DATA_AMF3, MAX_COMMAND, Message, SET_CHUNK_SIZE, Violation};

/// Chunk streams of one connection; publishers use five or so.
pub(super) const CHUNK_STREAMS: usize = 32;
/// The chunk size that every connection begins with.
pub(crate) const FIRST_CHUNK_SIZE: usize = 128;
/// A message is no longer than that, and therefore no chunk.
const MAX_CHUNK: usize = 0xff_ffff;
/// A timestamp of this value stands after the header, in four bytes.
const EXTENDED: u32 = 0xff_ffff;
/// The longest header: three bytes that name the chunk stream, eleven of the message, four of its time.
const HEADER: usize = 18;

/// Reads chunks of one peer.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// Bytes that the messages in progress may announce together.
    allowance: usize,
    announced: usize,
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    /// What of a header has come.
    header: [u8; HEADER],
    header_length: usize,
    expect: Expect,
    /// The peer does not repeat a time of four bytes in front of each further chunk of a message, as it should.
    bare: bool,
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Header,
    /// Bytes that are left of a chunk, and the index of its chunk stream.
    Body(usize, usize),
}

/// What the headers of the next chunks leave out, and the message in progress.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    delta: u32,
    /// What stood after the last header that said a time, if anything did.
    extension: Option<u32>,
    length: usize,
    kind: u8,
    message_stream: u32,
    body: Option<BytesMut>,
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self { id, timestamp: 0, delta: 0, extension: None, length: 0, kind: 0, message_stream: 0, body: None }
    }
}

impl Chunks {
    /// From the end of the handshake on.
    pub(crate) fn new(allowance: usize) -> Self {
        Self {
            allowance,
            announced: 0,
            chunk_size: FIRST_CHUNK_SIZE,
            streams: Vec::new(),
            header: [0; HEADER],
            header_length: 0,
            expect: Expect::Header,
            bare: false,
        }
    }

    /// Lets the peer announce so many bytes from now on.
    pub(crate) fn allow(&mut self, allowance: usize) {
        self.allowance = allowance;
    }

    /// Takes bytes until a message is whole, and leaves what follows it; `None` once all bytes are taken. After a
    /// violation there is nothing more to read.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, Violation> {
        loop {
            let (index, left) = match self.expect {
                Expect::Body(left, index) => (index, left),
                Expect::Header => match self.begin(bytes)? {
                    Some(begun) => begun,
                    None => return Ok(None),
                },
            };
            let (now, later) = bytes.split_at(left.min(bytes.len()));
            *bytes = later;
            let stream = self.streams.get_mut(index).ok_or(Violation::Malformed)?;
            let body = stream.body.get_or_insert_default();
            body.extend_from_slice(now);
            if now.len() < left {
                self.expect = Expect::Body(left - now.len(), index);
                return Ok(None);
            }
            self.expect = Expect::Header;
            if body.len() < stream.length {
                continue;
            }
            let body = stream.body.take().unwrap_or_default().freeze();
            let message =
                Message { kind: stream.kind, stream: stream.message_stream, timestamp: stream.timestamp, body };
            self.announced = self.announced.saturating_sub(stream.length);
            if !self.heeded(&message)? {
                return Ok(Some(message));
            }
        }
    }

    /// Takes bytes until a chunk's header is whole; the index of its chunk stream and the length of its body.
    fn begin(&mut self, bytes: &mut &[u8]) -> Result<Option<(usize, usize)>, Violation> {
        let (fields, timed) = loop {
            let wanted = match self.wanted()? {
                Wanted::Bytes(wanted) => wanted,
                Wanted::Nothing(fields, timed) => break (fields, timed),
            };
            let (now, later) = bytes.split_at((wanted - self.header_length).min(bytes.len()));
            *bytes = later;
            if let Some(space) = self.header.get_mut(self.header_length..self.header_length + now.len()) {
                space.copy_from_slice(now);
            }
            self.header_length += now.len();
            if self.header_length < wanted {
                return Ok(None);
            }
        };
        self.header_length = 0;
        let index = self.stream(fields.id).ok_or(Violation::ChunkStreams)?;
        let (chunk_size, bare) = (self.chunk_size, &mut self.bare);
        let stream = self.streams.get_mut(index).ok_or(Violation::ChunkStreams)?;
        if stream.body.is_some() && fields.format != 3 {
            // Half a message is followed by its other half.
            return Err(Violation::Malformed);
        }
        if let Some(body) = &mut stream.body {
            let now = stream.length.saturating_sub(body.len()).min(chunk_size);
            let mut left = now;
            if let Some(time) = timed
                && Some(time) != stream.extension
                && time != stream.timestamp
                && now >= size_of_val(&time)
            {
                // It was not the time, but what the chunk begins with.
                body.extend_from_slice(&time.to_be_bytes());
                left -= size_of_val(&time);
                *bare = true;
            }
            return Ok(Some((index, left)));
        }
        stream.extension = timed;
        if let Some((length, kind)) = fields.message {
            (stream.length, stream.kind) = (length, kind);
        }
        if let Some(message_stream) = fields.stream {
            stream.message_stream = message_stream;
        }
        match timed.or(fields.time) {
            // After a header without a time, what the last one said is the step to this message.
            Some(time) if fields.format == 0 => (stream.timestamp, stream.delta) = (time, time),
            Some(delta) if fields.format < 3 => {
                (stream.timestamp, stream.delta) = (stream.timestamp.wrapping_add(delta), delta);
            }
            _ => stream.timestamp = stream.timestamp.wrapping_add(stream.delta),
        }
        let textual = matches!(stream.kind, DATA_AMF3 | COMMAND_AMF3 | DATA | COMMAND);
        if textual && stream.length > MAX_COMMAND {
            return Err(Violation::Command);
        }
        self.announced += stream.length;
        if self.announced > self.allowance {
            return Err(Violation::TooLarge);
        }
        stream.body = Some(BytesMut::with_capacity(stream.length));
        Ok(Some((index, stream.length.min(chunk_size))))
    }

    /// What the header that has begun is, or how many bytes it takes to know more.
    fn wanted(&self) -> Result<Wanted, Violation> {
        let header = self.header.get(..self.header_length).unwrap_or_default();
        let (id, basic) = match *header {
            [] => return Ok(Wanted::Bytes(1)),
            [first, low, high, ..] if first & 0x3f == 1 => (64 + u32::from(low) + u32::from(high) * 256, 3),
            [first, ..] if first & 0x3f == 1 => return Ok(Wanted::Bytes(3)),
            [first, low, ..] if first & 0x3f == 0 => (64 + u32::from(low), 2),
            [first] if first & 0x3f == 0 => return Ok(Wanted::Bytes(2)),
            [first, ..] => (u32::from(first & 0x3f), 1),
        };
        let format = header.first().map_or(0, |first| first >> 6);
        let length = [11, 7, 3, 0][usize::from(format)];
        let Some(fields) = header.get(basic..basic + length) else { return Ok(Wanted::Bytes(basic + length)) };
        let mut of = Fields { id, format, time: None, message: None, stream: None };
        if let &[a, b, c, ..] = fields {
            of.time = Some(u32::from_be_bytes([0, a, b, c]));
        }
        if let &[_, _, _, a, b, c, kind, ..] = fields {
            of.message = Some((usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c), kind));
        }
        if let Some(stream) = fields.get(7..).and_then(<[u8]>::first_chunk) {
            of.stream = Some(u32::from_le_bytes(*stream));
        }
        let extended = match of.time {
            Some(time) => time == EXTENDED,
            None => self
                .streams
                .iter()
                .any(|stream| stream.id == id && stream.extension.is_some() && !(self.bare && stream.body.is_some())),
        };
        if !extended {
            return Ok(Wanted::Nothing(of, None));
        }
        let time = header.get(basic + length..).and_then(<[u8]>::first_chunk);
        Ok(match time {
            Some(time) => Wanted::Nothing(of, Some(u32::from_be_bytes(*time))),
            None => Wanted::Bytes(basic + length + 4),
        })
    }

    /// The index of a chunk stream, which may be new; none where there are too many.
    fn stream(&mut self, id: u32) -> Option<usize> {
        if let Some(index) = self.streams.iter().position(|stream| stream.id == id) {
            return Some(index);
        }
        if self.streams.len() >= CHUNK_STREAMS {
            return None;
        }
        self.streams.push(ChunkStream::new(id));
        Some(self.streams.len() - 1)
    }

    /// Does what a message says to the chunk layer itself; whether it did.
    fn heeded(&mut self, message: &Message) -> Result<bool, Violation> {
        match message.kind {
            SET_CHUNK_SIZE => {
                let size = message.number().ok_or(Violation::Malformed)? & 0x7fff_ffff;
                self.chunk_size = usize::try_from(size).unwrap_or(usize::MAX).min(MAX_CHUNK);
                if self.chunk_size == 0 {
                    return Err(Violation::Malformed);
                }
            }
            ABORT => {
                let id = message.number().ok_or(Violation::Malformed)?;
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id)
                    && stream.body.take().is_some()
                {
                    self.announced = self.announced.saturating_sub(stream.length);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// What has to be known of a header next.
enum Wanted {
    /// So many bytes of it.
    Bytes(usize),
    /// Nothing: its fields, and the time that stands after them, if one does.
    Nothing(Fields, Option<u32>),
}

/// What a chunk's header says.
struct Fields {
    id: u32,
    format: u8,
    time: Option<u32>,
    /// Length and type of the message.
    message: Option<(usize, u8)>,
    /// The message stream.
    stream: Option<u32>,
}

/// Writes a message in chunks of `chunk_size` bytes. Its header is whole, so that it depends on nothing that was
/// written before.
pub(crate) fn write(message: &Message, chunk_stream: u8, chunk_size: usize, out: &mut Vec<u8>) {
    let extended = (message.timestamp >= EXTENDED).then(|| message.timestamp.to_be_bytes());
    let [_, a, b, c] = message.timestamp.min(EXTENDED).to_be_bytes();
    let [_, d, e, f] = u32::try_from(message.body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let [g, h, i, j] = message.stream.to_le_bytes();
    out.extend([chunk_stream, a, b, c, d, e, f, message.kind, g, h, i, j]);
    out.extend(extended.into_iter().flatten());
    for (index, piece) in message.body.chunks(chunk_size.max(1)).enumerate() {
        if index > 0 {
            out.push(0xc0 | chunk_stream);
            out.extend(extended.into_iter().flatten());
        }
        out.extend_from_slice(piece);
    }
}

/// A control message that says how long the chunks will be that follow it.
pub(crate) fn set_chunk_size(size: u32) -> Message {
    Message::control(SET_CHUNK_SIZE, Bytes::copy_from_slice(&size.to_be_bytes()))
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
#[path = "chunks_fuzzing.rs"]
pub(crate) mod fuzzing;
