//! Time: a stream's own media timeline, its fixed buckets, and wall-clock instants that only travel
//! as data. Nothing in the data path asks a clock to decide anything.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// Length of a signal bucket in nanoseconds of media time: 500 ms.
pub const BUCKET_NANOS: i64 = 500_000_000;

/// Nanoseconds on a session's own timeline; 0 is the first frame of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The start of a session.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }
    /// From milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }
    /// From seconds, rounded to the nearest nanosecond and saturating at the ends of the range.
    pub fn from_secs_f64(seconds: f64) -> Self {
        Self((seconds * 1e9).round() as i64)
    }
    /// In nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }
    /// In seconds.
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// The bucket this instant lies in; instants before the session's start lie in the first.
    pub fn bucket(self) -> Bucket {
        Bucket((self.0.max(0) / BUCKET_NANOS) as u64)
    }
    /// `self - other`, not below the session's start.
    #[must_use]
    pub fn saturating_sub(self, other: MediaTime) -> Self {
        Self((self.0.saturating_sub(other.0)).max(0))
    }
}

impl Add for MediaTime {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for MediaTime {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.secs_f64())
    }
}

/// Index of a fixed bucket of media time; bucket `n` covers `[n, n+1) * BUCKET_NANOS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bucket(u64);

impl Bucket {
    /// From its index.
    pub const fn new(index: u64) -> Self {
        Self(index)
    }
    /// Its index.
    pub const fn index(self) -> u64 {
        self.0
    }
    /// Its first instant.
    pub fn start(self) -> MediaTime {
        MediaTime(i64::try_from(self.0).unwrap_or(i64::MAX).saturating_mul(BUCKET_NANOS))
    }
    /// The first instant after it.
    pub fn end(self) -> MediaTime {
        self.next().start()
    }
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
    /// `count` buckets earlier, not before the first.
    #[must_use]
    pub const fn back(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }
    /// `count` buckets later.
    #[must_use]
    pub const fn forward(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// Number of a session within its stream, from 1. A feed that comes back with a new timeline gets
/// the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Session(u32);

impl Session {
    /// From its number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A wall-clock instant as milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// As RFC 3339 in UTC with milliseconds, `2026-11-21T10:00:00.000Z`.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => format!("{t:.3}"),
            Err(_) => format!("{t:.3}", t = jiff::Timestamp::UNIX_EPOCH),
        }
    }
    /// Parses RFC 3339; `None` where the text is not an instant.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }
    /// This instant and `millis` more.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_the_timeline() {
        assert_eq!(MediaTime::from_millis(499).bucket(), Bucket::new(0));
        assert_eq!(MediaTime::from_millis(500).bucket(), Bucket::new(1));
        assert_eq!(MediaTime::from_millis(-3).bucket(), Bucket::new(0));
        assert_eq!(Bucket::new(3).end(), Bucket::new(4).start());
    }

    #[test]
    fn wall_time_survives_text() {
        let t = WallTime(1_795_000_000_123);
        assert_eq!(WallTime::parse(&t.rfc3339()), Some(t));
        assert_eq!(WallTime::parse("yesterday"), None);
    }
}
