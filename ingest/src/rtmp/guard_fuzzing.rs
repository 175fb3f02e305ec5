//! What the guard lets through is read by `rtmp-rs` as the guard read it: the library's own decoder is driven
//! beside it, chunk by chunk. A difference would let a peer announce what the guard does not see.

use super::*;
use bytes::BytesMut;
use rtmp_rs::amf::AmfValue;
use rtmp_rs::protocol::chunk::{ChunkDecoder, RtmpChunk};
use rtmp_rs::protocol::message::RtmpMessage;

/// What a peer may announce that is not known.
const ALLOWANCE: usize = 64 * 1024;
/// More values than any message that passes may become.
const VALUES: usize = 4096;

/// `data`: how long the pieces are in which the bytes arrive, then what follows the handshake.
pub fn chunks(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let mut guard = shaken();
    let mut library = Library { decoder: ChunkDecoder::new(), buffer: BytesMut::new() };
    let mut outcome = Ok(());
    for byte in bytes {
        outcome = guard.check(std::slice::from_ref(byte));
        if outcome.is_err() {
            break;
        }
        library.buffer.extend_from_slice(&[*byte]);
        let chunk_is_over = matches!(guard.expect, Expect::Header) && guard.header.is_empty();
        if chunk_is_over {
            within_allowance(&guard);
            if library.read(&guard).is_break() {
                return;
            }
        }
    }
    // In pieces, it decides the same.
    let mut again = shaken();
    let in_pieces = bytes.chunks(usize::from(*piece).max(1)).try_for_each(|piece| again.check(piece));
    assert_eq!(in_pieces, outcome, "pieces matter");
}

/// A byte (which message), and a command or metadata: what passes does not become many times its size.
pub fn commands(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else { return };
    let message_type = [DATA, COMMAND_AMF0, DATA_AMF3, COMMAND_AMF3][usize::from(kind & 3)];
    let skipped = if kind & 2 == 0 { payload } else { payload.strip_prefix(&[0]).unwrap_or(payload) };
    if amf::within_bounds(skipped) {
        let payload = bytes::Bytes::copy_from_slice(payload);
        let chunk = RtmpChunk { csid: 3, timestamp: 0, message_type, stream_id: 0, payload };
        if let Ok(message) = RtmpMessage::from_chunk(&chunk) {
            bounded(&message);
        }
    }
}

fn shaken() -> Guard {
    let mut guard = Guard::new(Arc::new(AtomicUsize::new(ALLOWANCE)));
    assert_eq!(guard.check(&[VERSION; HANDSHAKE]), Ok(()), "a handshake passes");
    guard
}

fn within_allowance(guard: &Guard) {
    let open: usize = guard.streams.values().filter(|stream| stream.remaining > 0).map(|stream| stream.length).sum();
    assert!(open <= ALLOWANCE, "{open} bytes are announced");
    assert!(guard.streams.len() <= CHUNK_STREAMS);
}

/// The decoder that the guard stands before.
struct Library {
    decoder: ChunkDecoder,
    buffer: BytesMut,
}

impl Library {
    /// Gives it the chunk that has passed; breaks where it would close the connection.
    fn read(&mut self, guard: &Guard) -> std::ops::ControlFlow<()> {
        let message = match self.decoder.decode(&mut self.buffer) {
            Ok(message) => message,
            Err(error) => panic!("the library does not understand what has passed: {error}"),
        };
        assert!(self.buffer.is_empty(), "for the library, the chunk ends elsewhere");
        if let Some(message) = message {
            same(&message, guard);
            match RtmpMessage::from_chunk(&message) {
                Ok(RtmpMessage::SetChunkSize(size)) => self.decoder.set_chunk_size(size),
                Ok(RtmpMessage::Abort { .. }) => panic!("an abort has passed"),
                Ok(message) => bounded(&message),
                Err(_) => return std::ops::ControlFlow::Break(()),
            }
        }
        let chunk_size = usize::try_from(self.decoder.chunk_size()).unwrap_or(usize::MAX);
        assert_eq!(chunk_size, guard.chunk_size, "another chunk size");
        std::ops::ControlFlow::Continue(())
    }
}

fn same(message: &RtmpChunk, guard: &Guard) {
    let Some(stream) = guard.streams.get(&message.csid) else { panic!("a chunk stream that was not seen") };
    assert_eq!((stream.remaining, stream.length), (0, message.payload.len()), "another length");
    assert_eq!(stream.kind, message.message_type, "another type");
}

/// A message does not become many times what was sent.
fn bounded(message: &RtmpMessage) {
    let values: usize = match message {
        RtmpMessage::Command(command) | RtmpMessage::CommandAmf3(command) => {
            command.arguments.iter().chain([&command.command_object]).map(values).sum()
        }
        RtmpMessage::Data(data) | RtmpMessage::DataAmf3(data) => data.values.iter().map(values).sum(),
        _ => 0,
    };
    assert!(values <= VALUES, "a message of {values} values has passed");
}

fn values(value: &AmfValue) -> usize {
    1 + match value {
        AmfValue::Array(items) => items.iter().map(values).sum(),
        AmfValue::Object(properties) | AmfValue::EcmaArray(properties) | AmfValue::TypedObject { properties, .. } => {
            properties.values().map(values).sum::<usize>()
        }
        _ => 0,
    }
}
