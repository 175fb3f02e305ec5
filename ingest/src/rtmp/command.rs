//! Commands and their answers (Adobe's RTMP specification 1.0, section 7.2; Enhanced RTMP v2, "connect").

use super::amf::{self, Value};
use super::message::{COMMAND, COMMAND_AMF3, Message, Violation};

/// Codecs of pictures and of sound that are taken in the form of Enhanced RTMP.
pub(crate) const VIDEO_CODECS: [&str; 5] = ["avc1", "hvc1", "av01", "vp09", "vp08"];
pub(crate) const AUDIO_CODECS: [&str; 3] = ["mp4a", "Opus", ".mp3"];

/// A command: a name, a number that its answer repeats, and values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Command {
    /// What is to be done, or what an answer says.
    pub(crate) name: String,
    /// 0 where no answer is expected.
    pub(crate) number: f64,
    /// The first is an object or nothing, what follows depends on the name.
    pub(crate) values: Vec<Value>,
    /// It broke off behind the values, or goes on in a way that is not read.
    broken: bool,
}

impl Command {
    /// One to be sent.
    pub(crate) fn new(name: &str, number: f64, values: impl Into<Vec<Value>>) -> Self {
        Self { name: name.to_owned(), number, values: values.into(), broken: false }
    }

    /// Reads a message of type 20, or of type 17, which has a byte more in front of the same.
    pub(crate) fn read(message: &Message) -> Result<Self, Violation> {
        let mut bytes = message.body.as_ref();
        if message.kind == COMMAND_AMF3 {
            bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        }
        let (values, broken) = amf::read_some(bytes)?;
        let mut values = values.into_iter();
        let name = values.next().and_then(|name| name.as_text().map(str::to_owned)).ok_or(Violation::Broken)?;
        let number = values.next().as_ref().and_then(Value::as_number).unwrap_or_default();
        Ok(Self { name, number, values: values.collect(), broken })
    }

    /// What cannot be missing of a command that broke off: some encoders send odd things where nobody looks.
    pub(crate) fn needed<T>(&self, value: Option<T>) -> Result<Option<T>, Violation> {
        if self.broken && value.is_none() { Err(Violation::Broken) } else { Ok(value) }
    }

    /// The message that says it on a message stream.
    pub(crate) fn message(&self, stream: u32) -> Message {
        let mut values = vec![Value::text(&self.name), Value::Number(self.number)];
        values.extend_from_slice(&self.values);
        Message { kind: COMMAND, stream, timestamp: 0, body: amf::write(&values).into() }
    }

    /// Text among the values behind the object.
    pub(crate) fn text(&self, index: usize) -> Option<&str> {
        self.values.get(index + 1).and_then(Value::as_text)
    }

    /// A number among the values behind the object.
    pub(crate) fn argument(&self, index: usize) -> Option<f64> {
        self.values.get(index + 1).and_then(Value::as_number)
    }

    /// A text of the object that says how something went.
    pub(crate) fn info(&self, name: &str) -> &str {
        self.values.iter().find_map(|value| value.get(name)?.as_text()).unwrap_or_default()
    }
}

/// How something went: `level` is `status` or `error`.
pub(super) fn info(level: &str, code: &str, description: &str) -> Value {
    Value::object([
        ("level", Value::text(level)),
        ("code", Value::text(code)),
        ("description", Value::text(description)),
    ])
}

/// A status of a message stream.
pub(super) fn status(level: &str, code: &str, description: &str) -> Command {
    Command::new("onStatus", 0.0, [Value::Null, info(level, code, description)])
}

/// The answer to `connect`, with what a publisher of Enhanced RTMP wants to know: every codec that the tag parser takes.
pub(super) fn connected(number: f64) -> Command {
    /// Several tracks, modifiers, timestamps of nanoseconds.
    const CAPABILITIES: u32 = 0x02 | 0x04 | 0x08;
    /// Decode, encode, forward.
    const FULL: f64 = 7.0;
    let codecs = |codecs: &[&str]| {
        Value::Object(codecs.iter().map(|codec| ((*codec).to_owned(), Value::Number(FULL))).collect())
    };
    let properties = Value::object([
        ("fmsVer", Value::text("FMS/3,5,7,7009")),
        ("capabilities", Value::Number(31.0)),
        ("capsEx", Value::Number(f64::from(CAPABILITIES))),
        ("videoFourCcInfoMap", codecs(&VIDEO_CODECS)),
        ("audioFourCcInfoMap", codecs(&AUDIO_CODECS)),
    ]);
    let info = Value::object([
        ("level", Value::text("status")),
        ("code", Value::text("NetConnection.Connect.Success")),
        ("description", Value::text("Connection succeeded.")),
        ("objectEncoding", Value::Number(0.0)),
    ]);
    Command::new("_result", number, [properties, info])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;

    fn command(bytes: &[u8]) -> Result<Command, Violation> {
        Command::read(&Message { kind: COMMAND, stream: 0, timestamp: 0, body: Bytes::copy_from_slice(bytes) })
    }

    #[test]
    fn what_breaks_off_behind_what_is_needed_does_no_harm() {
        let publish = [&b"\x02\x00\x07publish"[..], &[0; 9], b"\x05\x02\x00\x03key\x02\x00\x04li"].concat();
        let read = command(&publish).unwrap();
        assert_eq!(read.needed(read.text(0)), Ok(Some("key")));
        assert_eq!(read.needed(read.text(1)), Err(Violation::Broken));
        // The end of the object is missing.
        let connect = [&b"\x02\x00\x07connect"[..], &[0; 9], b"\x03\x00\x03app\x02\x00\x04live"].concat();
        let read = command(&connect).unwrap();
        assert_eq!(read.values, [Value::object([("app", Value::text("live"))])]);
        // AMF3 from here on.
        let other = [&b"\x02\x00\x01a"[..], &[0; 9], b"\x11\x0a\x0b"].concat();
        assert_eq!(command(&other).map(|read| read.values), Ok(vec![]));
        assert_eq!(command(b"\x02\x00\x07conn"), Err(Violation::Broken));
    }

    #[test]
    fn what_is_said_is_understood() {
        let said = status("error", "NetStream.Publish.BadName", "unknown stream key");
        let heard = Command::read(&said.message(1)).unwrap();
        assert_eq!((heard.name.as_str(), heard.info("level")), ("onStatus", "error"));
        assert_eq!(heard.info("description"), "unknown stream key");
        let heard = Command::read(&connected(1.0).message(0)).unwrap();
        assert_eq!((heard.number, heard.info("code")), (1.0, "NetConnection.Connect.Success"));
    }
}
