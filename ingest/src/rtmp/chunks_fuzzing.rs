//! What must hold of a peer's chunks and commands, whatever they are.

use super::super::amf::Value;
use super::super::command::Command;
use super::*;

/// What a peer may announce that is not known.
const ALLOWANCE: usize = 64 * 1024;
/// More values than any message may become.
const VALUES: usize = 2048;

/// `data`: how long the pieces are in which the bytes arrive, then what follows the handshake. What is announced and
/// held stays within bounds, and pieces do not matter.
pub fn chunks(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let one_by_one = read(bytes.chunks(1));
    let in_pieces = read(bytes.chunks(usize::from(*piece).max(1)));
    assert_eq!(in_pieces, one_by_one, "pieces matter");
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<Violation>) {
    let mut chunks = Chunks::new(ALLOWANCE);
    let mut messages = Vec::new();
    for mut piece in pieces {
        loop {
            match chunks.next(&mut piece) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(violation) => return (messages, Some(violation)),
            }
            bounded(&chunks);
        }
        bounded(&chunks);
        assert!(piece.is_empty(), "bytes were left without a message");
    }
    (messages, None)
}

fn bounded(chunks: &Chunks) {
    let open = chunks.streams.iter().filter_map(|stream| Some((stream.length, stream.body.as_ref()?)));
    let (announced, held) = open.fold((0, 0), |(announced, held), (length, body)| {
        assert!(body.len() <= length, "more was kept than was announced");
        (announced + length, held + body.capacity())
    });
    assert!(announced <= ALLOWANCE && held <= 2 * ALLOWANCE, "{announced} announced, {held} held");
    assert_eq!(announced, chunks.announced);
    assert!(chunks.streams.len() <= CHUNK_STREAMS);
}

/// A byte (which message), and a command: what is read does not become many times its size.
pub fn commands(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let kind = if kind & 1 == 0 { COMMAND } else { COMMAND_AMF3 };
    let message = Message { kind, stream: 0, timestamp: 0, body: Bytes::copy_from_slice(body) };
    if let Ok(command) = Command::read(&message) {
        let count = command.values.iter().map(count).sum::<usize>();
        assert!(count <= VALUES, "a message of {count} values has passed");
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(properties) => properties.iter().map(|(_, value)| count(value)).sum(),
        _ => 0,
    }
}
