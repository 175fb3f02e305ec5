//! Durations as configuration writes them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// A duration that is written with its unit: `250ms`, `5s`, `2m`, `12h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Of so many seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
    /// Parses a number followed by its unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bad =
            || format!("'{text}' is not a duration; write a number and a unit (ms, s, m, h, d), as in 250ms or 5s");
        let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(bad)?;
        let number: f64 = text[..split].trim().parse().map_err(|_| bad())?;
        let unit = match &text[split..] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(bad()),
        };
        Duration::try_from_secs_f64(number * unit).map(Self).map_err(|_| bad())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", self.0.as_millis()))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(Span::parse("250ms"), Ok(Span(Duration::from_millis(250))));
        assert_eq!(Span::parse("1.5m"), Ok(Span::secs(90)));
        for bad in ["5", "s", "-1s", "5 weeks", "", "1e400s"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }
}
