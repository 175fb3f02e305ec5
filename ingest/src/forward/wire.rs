//! RTMP as a publisher speaks it: messages in chunks, commands and their values (Adobe's RTMP specification 1.0,
//! 5.3 and 7.2). What the library has of it is used here alone.

use bytes::{Bytes, BytesMut};
use rtmp_rs::amf::AmfValue;
use rtmp_rs::amf::amf0::{Amf0Decoder, encode_all};
use rtmp_rs::protocol::chunk::ChunkDecoder;
use std::collections::HashMap;
use std::io::Result;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::rtmp::Guard;

// Types of messages.
pub(super) const SET_CHUNK_SIZE: u8 = 1;
pub(super) const ACKNOWLEDGEMENT: u8 = 3;
pub(super) const USER_CONTROL: u8 = 4;
pub(super) const WINDOW: u8 = 5;
const COMMAND_AMF3: u8 = 17;
const COMMAND: u8 = 20;

/// Chunk streams: what is not media goes by its kind.
const CONTROL_CHUNKS: u8 = 2;
const COMMAND_CHUNKS: u8 = 3;
const MEDIA_CHUNKS: u8 = 4;

/// Bytes that a server may announce in messages: its answers are a few hundred.
const ANSWERS: usize = 64 * 1024;
/// Bytes of a chunk until another size is said.
const CHUNK: usize = 128;
/// From here on a timestamp stands after the header.
const EXTENDED: u32 = 0xff_ffff;

/// A message, from or to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Its type.
    pub(super) kind: u8,
    /// The message stream: 0, or what was made for publishing.
    pub(super) stream: u32,
    /// Milliseconds; wraps after 49 days.
    pub(super) timestamp: u32,
    pub(super) body: Bytes,
}

impl Message {
    /// One of the connection itself.
    pub(super) fn control(kind: u8, body: Vec<u8>) -> Self {
        Self { kind, stream: 0, timestamp: 0, body: body.into() }
    }
}

/// A command or the answer to one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) name: String,
    /// Which command it answers, or which answer is meant for it; 0 where none is.
    pub(super) number: f64,
    pub(super) values: Vec<Value>,
}

/// What commands carry, as far as it is said or understood here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Number(f64),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
    Other,
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Command {
    pub(super) fn new(name: &str, number: f64, values: Vec<Value>) -> Self {
        Self { name: name.to_owned(), number, values }
    }

    /// Its message, on this message stream.
    pub(super) fn message(&self, stream: u32) -> Message {
        let mut all = vec![AmfValue::String(self.name.clone()), AmfValue::Number(self.number)];
        all.extend(self.values.iter().map(written));
        Message { kind: COMMAND, stream, timestamp: 0, body: encode_all(&all) }
    }

    /// Of a message, if it is a command.
    pub(super) fn of(message: &Message) -> Option<Self> {
        let mut body = match message.kind {
            COMMAND => message.body.clone(),
            // One byte says which AMF follows, which is 0 all the same.
            COMMAND_AMF3 => message.body.get(1..).map(|_| message.body.slice(1..))?,
            _ => return None,
        };
        // Some servers leave out what a command should have, where nobody waits for it.
        let values = Amf0Decoder::new().decode_all(&mut body).ok()?;
        let mut values = values.into_iter().map(understood);
        let Some(Value::Text(name)) = values.next() else { return None };
        let number = match values.next() {
            Some(Value::Number(number)) => number,
            _ => 0.0,
        };
        Some(Self { name, number, values: values.collect() })
    }

    /// The first number among its values.
    pub(super) fn first_number(&self) -> Option<f64> {
        self.values.iter().find_map(|value| if let Value::Number(number) = value { Some(*number) } else { None })
    }

    /// A text of the object that a status carries; empty where there is none.
    pub(super) fn info(&self, name: &str) -> &str {
        let objects =
            self.values.iter().filter_map(|value| if let Value::Object(all) = value { Some(all) } else { None });
        let texts = objects.flatten().filter_map(|(key, value)| match value {
            Value::Text(text) if key == name => Some(text.as_str()),
            _ => None,
        });
        texts.into_iter().next().unwrap_or_default()
    }
}

fn written(value: &Value) -> AmfValue {
    match value {
        Value::Null | Value::Other => AmfValue::Null,
        Value::Number(number) => AmfValue::Number(*number),
        Value::Text(text) => AmfValue::String(text.clone()),
        Value::List(values) => AmfValue::Array(values.iter().map(written).collect()),
        Value::Object(values) => {
            AmfValue::Object(values.iter().map(|(name, value)| (name.clone(), written(value))).collect())
        }
    }
}

fn understood(value: AmfValue) -> Value {
    match value {
        AmfValue::Null | AmfValue::Undefined => Value::Null,
        AmfValue::Number(number) => Value::Number(number),
        AmfValue::String(text) => Value::Text(text),
        AmfValue::Object(values) | AmfValue::EcmaArray(values) => {
            Value::Object(values.into_iter().map(|(name, value)| (name, understood(value))).collect())
        }
        _ => Value::Other,
    }
}

/// Where messages go.
pub(super) struct Writer<W> {
    pub(super) to: W,
    chunk: usize,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, chunk: CHUNK }
    }

    /// Says how large chunks are from now on, and makes them so.
    pub(super) async fn set_chunk(&mut self, bytes: u32) -> Result<()> {
        self.write(&Message::control(SET_CHUNK_SIZE, bytes.to_be_bytes().to_vec())).await?;
        self.chunk = usize::try_from(bytes).unwrap_or(CHUNK);
        Ok(())
    }

    /// Writes one message. Each has a full header, so that none depends on what was sent before.
    pub(super) async fn write(&mut self, message: &Message) -> Result<()> {
        let chunks = match message.kind {
            COMMAND => COMMAND_CHUNKS,
            SET_CHUNK_SIZE..=WINDOW => CONTROL_CHUNKS,
            _ => MEDIA_CHUNKS,
        };
        let extended = (message.timestamp >= EXTENDED).then(|| message.timestamp.to_be_bytes());
        let [_, a, b, c] = message.timestamp.min(EXTENDED).to_be_bytes();
        let [_, d, e, f] = u32::try_from(message.body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let [g, h, i, j] = message.stream.to_le_bytes();
        self.to.write_all(&[chunks, a, b, c, d, e, f, message.kind, g, h, i, j]).await?;
        if let Some(timestamp) = extended {
            self.to.write_all(&timestamp).await?;
        }
        for (index, piece) in message.body.chunks(self.chunk).enumerate() {
            if index > 0 {
                self.to.write_all(&[0xc0 | chunks]).await?;
                if let Some(timestamp) = extended {
                    self.to.write_all(&timestamp).await?;
                }
            }
            self.to.write_all(piece).await?;
        }
        Ok(())
    }
}

/// Where a server's messages come from, within bounds.
pub(super) struct Reader<R> {
    from: R,
    guard: Guard,
    decoder: ChunkDecoder,
    buffer: BytesMut,
    /// Bytes that were read and not acknowledged yet.
    pub(super) unacknowledged: u32,
    /// All bytes that were read; wraps.
    pub(super) sum: u32,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// After the handshake, which was read already.
    pub(super) fn new(from: R, handshake: &[u8]) -> std::result::Result<Self, String> {
        let mut guard = Guard::new(Arc::new(AtomicUsize::new(ANSWERS)));
        guard.check(handshake).map_err(|violation| violation.to_string())?;
        let buffer = BytesMut::with_capacity(4096);
        Ok(Self { from, guard, decoder: ChunkDecoder::new(), buffer, unacknowledged: 0, sum: 0 })
    }

    /// The next message. Dropped before it has come, nothing is lost.
    pub(super) async fn next(&mut self) -> std::result::Result<Message, String> {
        loop {
            let waiting = self.buffer.len();
            if let Some(chunk) = self.decoder.decode(&mut self.buffer).map_err(|error| error.to_string())? {
                if let (SET_CHUNK_SIZE, Some(size)) = (chunk.message_type, chunk.payload.first_chunk()) {
                    self.decoder.set_chunk_size(u32::from_be_bytes(*size));
                }
                let (kind, stream, timestamp) = (chunk.message_type, chunk.stream_id, chunk.timestamp);
                return Ok(Message { kind, stream, timestamp, body: chunk.payload });
            }
            if self.buffer.len() < waiting {
                // It took a part of a message, and the next part may be there already.
                continue;
            }
            let before = self.buffer.len();
            let count = self.from.read_buf(&mut self.buffer).await.map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the server closed the connection".to_owned());
            }
            let read = self.buffer.get(before..).unwrap_or_default();
            self.guard.check(read).map_err(|violation| violation.to_string())?;
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.sum = self.sum.wrapping_add(count);
            self.unacknowledged = self.unacknowledged.saturating_add(count);
        }
    }
}

/// The body of the message that tells a server what is published.
pub(crate) fn metadata(values: &HashMap<String, AmfValue>) -> Bytes {
    let name = |text: &str| AmfValue::String(text.to_owned());
    encode_all(&[name("@setDataFrame"), name("onMetaData"), AmfValue::EcmaArray(values.clone())])
}
