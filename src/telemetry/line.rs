//! One line of the log: what it says and how it looks.

use jiff::Timestamp;
use serde::Serialize;
use std::fmt::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use super::redact::{is_secret, redact};
use crate::config::LogFormat;

/// Longer texts are cut, in bytes.
const LONGEST: usize = 4096;

/// Names that mean something in every line; a field of such a name gets an underscore.
const RESERVED: [&str; 5] = ["timestamp", "level", "target", "message", "repeated"];

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Text, without secrets.
    Text(String),
    /// A number from 0 on.
    Unsigned(u64),
    /// A number.
    Signed(i64),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

/// A line before it is written. Texts in it are free of secrets and not too long.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When it happened.
    pub at: Timestamp,
    /// How bad it is.
    pub level: Level,
    /// The part of the program that says so.
    pub target: String,
    /// What happened.
    pub message: String,
    /// The particulars.
    pub fields: Vec<(&'static str, Value)>,
}

impl Line {
    /// A line without particulars that happens now.
    pub fn new(level: Level, target: &str, message: impl fmt::Display) -> Self {
        let (target, message) = (target.to_owned(), text(format_args!("{message}")));
        Self { at: Timestamp::now(), level, target, message, fields: Vec::new() }
    }

    /// What an event says.
    pub fn of(event: &tracing::Event<'_>) -> Self {
        let metadata: &Metadata<'_> = event.metadata();
        let mut line = Self::new(*metadata.level(), metadata.target(), "");
        event.record(&mut line);
        line
    }

    /// Adds a text.
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.put(name, Value::Text(text(format_args!("{value}"))));
        self
    }

    /// The line as it is written, its end included.
    pub fn render(&self, repeated: u64, format: LogFormat, colour: bool) -> String {
        match format {
            LogFormat::Text => self.as_text(repeated, colour),
            LogFormat::Json => self.as_json(repeated),
        }
    }

    fn put(&mut self, name: &'static str, value: Value) {
        match (name, value) {
            ("message", Value::Text(message)) => self.message = message,
            // Of libraries that use `log`: the target is in a field, the place in the code is of no use.
            ("log.target", Value::Text(target)) => self.target = target,
            (name, _) if name.starts_with("log.") => {}
            // Written as a number here and as a text there; a number for all who read it.
            ("session", Value::Text(number)) if number.parse::<u64>().is_ok() => {
                self.fields.push((name, Value::Unsigned(number.parse().unwrap_or_default())));
            }
            (name, _) if is_secret(name) => self.fields.push((name, Value::Text("…".to_owned()))),
            (name, value) => self.fields.push((name, value)),
        }
    }

    fn as_json(&self, repeated: u64) -> String {
        let json = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let mut out = format!(r#"{{"timestamp":"{:.6}","level":"{}","target":"#, self.at, self.level);
        out += &format!(r#"{},"message":{}"#, json(&self.target), json(&self.message));
        for (name, value) in &self.fields {
            let value = serde_json::to_string(value).unwrap_or_default();
            out += &format!(",{}:{value}", json(&unreserved(name)));
        }
        if repeated > 0 {
            out += &format!(r#","repeated":{repeated}"#);
        }
        out + "}\n"
    }

    fn as_text(&self, repeated: u64, colour: bool) -> String {
        let mut out = format!("{:.6} {}", self.at, level(self.level, colour));
        out += &format!(" {}: ", plain(&self.target));
        out += &plain(&self.message);
        for (name, value) in &self.fields {
            out += &format!(" {}=", unreserved(name));
            match value {
                Value::Text(text) if is_bare(text) => out += text,
                Value::Text(text) => out += &format!("\"{}\"", plain(text).replace('"', "\\\"")),
                Value::Unsigned(number) => out += &number.to_string(),
                Value::Signed(number) => out += &number.to_string(),
                Value::Float(number) => out += &number.to_string(),
                Value::Bool(yes) => out += if *yes { "true" } else { "false" },
            }
        }
        if repeated > 0 {
            out += &format!(" repeated={repeated}");
        }
        out + "\n"
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), Value::Text(text(format_args!("{value:?}"))));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::Text(text(format_args!("{value}"))));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::Unsigned(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::Signed(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::Float(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::Bool(value));
    }
}

/// A text that takes no more than it may.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut room = LONGEST - self.0.len().min(LONGEST);
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        while !text.is_char_boundary(room) {
            room -= 1;
        }
        self.0.push_str(&text[..room]);
        // Ends the formatting.
        Err(fmt::Error)
    }
}

/// The text as it may be shown: cut, and without secrets.
fn text(arguments: fmt::Arguments<'_>) -> String {
    let mut out = Bounded(String::new());
    let cut = out.write_fmt(arguments).is_err();
    let mut out = match redact(&out.0) {
        std::borrow::Cow::Borrowed(_) => out.0,
        std::borrow::Cow::Owned(redacted) => redacted,
    };
    if cut {
        out.push('…');
    }
    out
}

fn unreserved(name: &str) -> String {
    if RESERVED.contains(&name) { format!("{name}_") } else { name.to_owned() }
}

fn level(level: Level, colour: bool) -> String {
    let code = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    if colour { format!("\x1b[{code}m{level:>5}\x1b[0m") } else { format!("{level:>5}") }
}

/// Whether a value can be told from what follows without quotes.
fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"=".contains(c))
}

/// Without line breaks and whatever else drives a terminal: who is logged must not write lines.
fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn line() -> Line {
        let mut line = Line::new(Level::WARN, "crest::x", "it broke\nbadly").with("error", "no \"such\" file");
        line.at = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        line.fields.extend([("stream_id", Value::Text("s1".to_owned())), ("session", Value::Unsigned(2))]);
        line
    }

    #[test]
    fn a_line_as_text() {
        let expected = "2026-01-02T03:04:05.678901Z  WARN crest::x: it broke\\nbadly error=\"no \\\"such\\\" file\" \
                        stream_id=s1 session=2 repeated=7\n";
        assert_eq!(line().render(7, LogFormat::Text, false), expected);
        assert!(line().render(0, LogFormat::Text, true).contains("\u{1b}[33m WARN\u{1b}[0m"));
    }

    #[test]
    fn a_line_as_json() {
        let json: serde_json::Value = serde_json::from_str(&line().render(7, LogFormat::Json, true)).unwrap();
        let expected = serde_json::json!({
            "timestamp": "2026-01-02T03:04:05.678901Z", "level": "WARN", "target": "crest::x",
            "message": "it broke\nbadly", "error": "no \"such\" file", "stream_id": "s1", "session": 2, "repeated": 7,
        });
        assert_eq!(json, expected);
        assert!(!line().render(0, LogFormat::Json, false).contains("repeated"));
    }

    #[test]
    fn fields_cannot_pass_for_what_every_line_has() {
        let json =
            Line::new(Level::INFO, "t", "m").with("level", "x").with("repeated", 9).render(0, LogFormat::Json, false);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["level"], &json["level_"], &json["repeated_"]), (&"INFO".into(), &"x".into(), &"9".into()));
    }

    #[test]
    fn long_texts_are_cut_and_secrets_are_not_there() {
        let long = Line::new(Level::INFO, "t", "ä".repeat(LONGEST));
        assert_eq!(long.message.chars().count(), LONGEST / 2 + 1);
        let secret = Line::new(Level::INFO, "t", "key crest_sk_abc").with("error", "Bearer abc").with("api_key", "abc");
        assert!(!secret.render(0, LogFormat::Json, false).contains("abc"), "{secret:?}");
    }
}
