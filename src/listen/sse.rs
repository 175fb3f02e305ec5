//! Server-sent events, read from bytes as they come. The format is that of the WHATWG HTML standard,
//! section 9.2.6; `retry` is not used here.

use std::fmt;

/// A block of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Where the stream is; `None` where the block does not say.
    pub id: Option<String>,
    /// The event's type; empty where the block does not say.
    pub event: String,
    /// The data; `None` in a block that tells only where the stream is.
    pub data: Option<String>,
}

/// More came without an end than a message may be long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong(pub usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server sent a message of more than {} bytes", self.0)
    }
}

impl std::error::Error for TooLong {}

/// Puts messages together. Holds one unfinished message, never more than its limit.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    /// The unfinished line.
    line: Vec<u8>,
    /// The line before ended with a carriage return; a line feed now belongs to it.
    after_return: bool,
    /// Nothing has ended a line yet: a byte order mark may stand here.
    first_line: bool,
    message: Message,
}

impl Parser {
    /// For messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new(), after_return: false, first_line: true, message: Message::default() }
    }

    /// Takes the next bytes and returns the messages that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        for &byte in bytes {
            let second_half = std::mem::take(&mut self.after_return) && byte == b'\n';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    messages.extend(self.end_line());
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.message.data.as_ref().map_or(0, String::len) > self.limit {
                return Err(TooLong(self.limit));
            }
        }
        Ok(messages)
    }

    /// What a whole line adds to the message; the message where the line is empty.
    fn end_line(&mut self) -> Option<Message> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let line = if std::mem::take(&mut self.first_line) { line.trim_start_matches('\u{feff}') } else { &line };
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            let says_something = message.id.is_some() || message.data.is_some();
            return says_something.then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.message.id = Some(value.to_owned()),
            "event" => self.message.event = value.to_owned(),
            "data" => match &mut self.message.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.to_owned()),
            },
            // Comments, and fields that this does not know.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(id: &str, event: &str, data: &str) -> Message {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Message { id: some(id), event: event.to_owned(), data: some(data) }
    }

    const TEXT: &str = "\u{feff}id: 3\n: hello\n\n:only a comment\n\nid: 4-evt_a\nevent: stream.started\n\
        data: {\"t\":\"gr\u{fc}n\"}\n\nevent:x\nid\nretry: 5\ndata:one\ndata: two\n\ndata: unfinished\n";

    fn expected() -> Vec<Message> {
        let last = Message { id: Some(String::new()), event: "x".into(), data: Some("one\ntwo".into()) };
        vec![message("3", "", ""), message("4-evt_a", "stream.started", "{\"t\":\"gr\u{fc}n\"}"), last]
    }

    #[test]
    fn the_same_messages_wherever_the_chunks_end_and_however_lines_end() {
        for ending in ["\n", "\r\n", "\r"] {
            let text = TEXT.replace('\n', ending);
            for cut in 0..text.len() {
                for other in (cut..text.len()).step_by(7) {
                    let mut parser = Parser::new(1000);
                    let bytes = text.as_bytes();
                    let parts = [&bytes[..cut], &bytes[cut..other], &bytes[other..]];
                    let found: Vec<_> = parts.iter().flat_map(|part| parser.push(part).unwrap()).collect();
                    assert_eq!(found, expected(), "{ending:?} cut at {cut} and {other}");
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_stop_it() {
        let mut parser = Parser::new(100);
        let found = parser.push(b"data: \xff\xfe\x00\n\nid: a\0b\ndata: x\n\n").unwrap();
        assert_eq!(found[0].data.as_deref(), Some("\u{fffd}\u{fffd}\0"));
        assert_eq!(found[1], message("", "", "x"), "an id with a NUL is none");
    }

    #[test]
    fn what_has_no_end_is_refused_before_it_is_kept() {
        let mut parser = Parser::new(100);
        assert_eq!(parser.push(&[b'x'; 100]), Ok(Vec::new()));
        assert_eq!(parser.push(b"x"), Err(TooLong(100)));
        let mut parser = Parser::new(100);
        let lines = "data: 0123456789\n".repeat(20);
        assert_eq!(parser.push(lines.as_bytes()), Err(TooLong(100)));
        assert!(parser.line.len() + parser.message.data.map_or(0, |data| data.len()) <= 101 + "data: ".len());
    }
}
