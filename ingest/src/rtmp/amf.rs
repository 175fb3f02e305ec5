//! AMF0, in which commands are written (Adobe's "Action Message Format", version 0). Reading is bounded: a message of
//! references to references would become terabytes.

use super::message::Violation;

/// Values in one message; publishers send some thirty.
pub(super) const MAX_VALUES: usize = 2048;
/// Objects in objects; publishers send two levels.
const MAX_DEPTH: usize = 8;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const REFERENCE: u8 = 0x07;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;
const XML: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A number; a date is one too, in milliseconds.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text.
    Text(String),
    /// Nothing, in whichever way that was said.
    Null,
    /// Named values in their order: an object, or an array by name.
    Object(Vec<(String, Value)>),
    /// Values in their order.
    Array(Vec<Value>),
}

impl Value {
    /// Text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Named values.
    pub(crate) fn object<const N: usize>(properties: [(&str, Self); N]) -> Self {
        Self::Object(properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The text that it is.
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number that it is.
    pub(crate) fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The value of this name, in an object that has one.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(properties) = self else { return None };
        properties.iter().find(|(of, _)| of == name).map(|(_, value)| value)
    }
}

/// Reads the values of a message up to where it breaks off, or goes on in a way that is not read; whether it does.
/// A message beyond all bounds is an error.
pub(crate) fn read_some(message: &[u8]) -> Result<(Vec<Value>, bool), Violation> {
    let mut reader = Reader { rest: message, values: 0 };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        match reader.value(0) {
            Ok(value) => values.push(value),
            Err(Violation::Broken) => return Ok((values, true)),
            Err(violation) => return Err(violation),
        }
    }
    Ok((values, false))
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Violation::Broken)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Violation> {
        self.take(1).map(|taken| taken.first().copied().unwrap_or_default())
    }

    /// A big-endian length of two or four bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, Violation> {
        Ok(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// Text with its length before it.
    fn text(&mut self, bytes: usize) -> Result<String, Violation> {
        let length = self.length(bytes)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Violation::Broken)?;
        Ok(text.to_owned())
    }

    fn number(&mut self) -> Result<f64, Violation> {
        let bytes = self.take(8)?.first_chunk().ok_or(Violation::Broken)?;
        Ok(f64::from_be_bytes(*bytes))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Violation> {
        self.values += 1;
        if self.values > MAX_VALUES || depth > MAX_DEPTH {
            return Err(Violation::Command);
        }
        Ok(match self.byte()? {
            NUMBER => Value::Number(self.number()?),
            BOOLEAN => Value::Boolean(self.byte()? != 0),
            STRING => Value::Text(self.text(2)?),
            LONG_STRING | XML => Value::Text(self.text(4)?),
            NULL | UNDEFINED | UNSUPPORTED => Value::Null,
            OBJECT => Value::Object(self.properties(depth)?),
            ECMA_ARRAY => {
                // How many there are is a hint; an end stands behind them.
                self.take(4)?;
                Value::Object(self.properties(depth)?)
            }
            TYPED_OBJECT => {
                self.text(2)?;
                Value::Object(self.properties(depth)?)
            }
            STRICT_ARRAY => {
                let count = self.length(4)?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::Array(values)
            }
            DATE => {
                let at = self.number()?;
                self.take(2)?;
                Value::Number(at)
            }
            // Nobody publishes with it, and whoever resolves it builds more than was sent.
            REFERENCE => return Err(Violation::Command),
            _ => return Err(Violation::Broken),
        })
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Violation> {
        let mut properties = Vec::new();
        loop {
            if self.rest.is_empty() {
                // Some encoders leave the end out where the message ends.
                return Ok(properties);
            }
            let name = self.text(2)?;
            if name.is_empty() && self.rest.first() == Some(&OBJECT_END) {
                self.byte()?;
                return Ok(properties);
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }
}

/// Writes values one after the other.
pub(crate) fn write(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| write_value(value, &mut out));
    out
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            out.push(NUMBER);
            out.extend(number.to_be_bytes());
        }
        Value::Boolean(boolean) => out.extend([BOOLEAN, u8::from(*boolean)]),
        Value::Text(text) => match u16::try_from(text.len()) {
            Ok(_) => {
                out.push(STRING);
                write_name(text, out);
            }
            Err(_) => {
                out.push(LONG_STRING);
                out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend(text.as_bytes());
            }
        },
        Value::Null => out.push(NULL),
        Value::Object(properties) => {
            out.push(OBJECT);
            for (name, value) in properties {
                write_name(name, out);
                write_value(value, out);
            }
            out.extend([0, 0, OBJECT_END]);
        }
        Value::Array(values) => {
            out.push(STRICT_ARRAY);
            out.extend(u32::try_from(values.len()).unwrap_or(u32::MAX).to_be_bytes());
            values.iter().for_each(|value| write_value(value, out));
        }
    }
}

/// Text of less than 64 KiB without its marker.
fn write_name(name: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(name.as_bytes().get(..usize::from(length)).unwrap_or_default());
}

#[cfg(test)]
#[path = "amf_tests.rs"]
mod tests;
