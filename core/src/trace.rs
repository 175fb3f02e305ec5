//! Trace context, as W3C Trace Context 1 defines it: it travels with records from a sample to the webhook
//! that follows from it, so that one can be found by the other. It decides nothing.

use std::fmt;
use std::str::FromStr;

/// Which trace something belongs to, and which step of it came before.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trace {
    id: [u8; 16],
    span: [u8; 8],
}

impl Trace {
    /// A new trace and its first step.
    pub fn begin() -> Self {
        Self { id: uuid::Uuid::now_v7().into_bytes(), span: span() }
    }

    /// The trace with these ids, which are not 0.
    pub const fn new(id: [u8; 16], span: [u8; 8]) -> Self {
        Self { id, span }
    }

    /// The same trace, one step further.
    #[must_use]
    pub fn step(self) -> Self {
        Self { span: span(), ..self }
    }

    /// The id of the whole trace.
    pub const fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The id of the whole trace as it is written: 32 hexadecimal digits.
    pub fn id_hex(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.id))
    }

    /// The id of the last step.
    pub const fn span(&self) -> [u8; 8] {
        self.span
    }
}

/// The random half of a UUID, which is never 0: two of its bits are set.
fn span() -> [u8; 8] {
    uuid::Uuid::now_v7().as_u64_pair().1.to_be_bytes()
}

/// The `traceparent` header: `00-<trace id>-<span id>-01`.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-01", self.id_hex(), u64::from_be_bytes(self.span))
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a `traceparent` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTrace;

impl fmt::Display for NoTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a traceparent of W3C Trace Context")
    }
}

impl std::error::Error for NoTrace {}

impl FromStr for Trace {
    type Err = NoTrace;

    fn from_str(text: &str) -> Result<Self, NoTrace> {
        let bytes = text.as_bytes();
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let hex = |range: std::ops::Range<usize>| {
            let part = text.get(range).filter(|p| p.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
            part.ok_or(NoTrace)
        };
        // A later version may say more after the flags.
        let rest = bytes.len() == 55 || (bytes.len() > 55 && bytes[55] == b'-' && !text.starts_with("00"));
        if !dashes || !rest || hex(0..2)? == "ff" {
            return Err(NoTrace);
        }
        hex(53..55)?;
        let id = u128::from_str_radix(hex(3..35)?, 16).map_err(|_| NoTrace)?;
        let span = u64::from_str_radix(hex(36..52)?, 16).map_err(|_| NoTrace)?;
        if id == 0 || span == 0 {
            return Err(NoTrace);
        }
        Ok(Self { id: id.to_be_bytes(), span: span.to_be_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_stays_in_its_trace() {
        let first = Trace::begin();
        let second = first.step();
        assert_eq!(first.id(), second.id());
        assert_ne!(first.span(), second.span());
        assert_ne!(first.id(), Trace::begin().id());
    }

    #[test]
    fn a_traceparent_comes_back_and_what_is_none_is_refused() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(text.parse::<Trace>().map(|trace| trace.to_string()), Ok(text.to_owned()));
        assert!("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more".parse::<Trace>().is_ok());
        let wrong = [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Trace>(), Err(NoTrace), "{text}");
        }
    }
}
