//! Bounds what an AMF0 message may make `rtmp-rs` build. Its decoder keeps a copy of every object and
//! resolves references by copying: a kilobyte of references to references becomes terabytes. This walk
//! reads values as that decoder does and counts them.

/// The longest command or metadata message; they are a few hundred bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// Values in one message; publishers send some thirty.
const MAX_VALUES: usize = 2048;
/// Objects in objects; publishers send two levels.
const MAX_DEPTH: usize = 8;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const REFERENCE: u8 = 0x07;
const ECMA_ARRAY: u8 = 0x08;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const XML: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;

/// Why a walk ended before the message did.
enum End {
    /// The message breaks off, and the decoder stops there too.
    Short,
    /// Too many values, too deep, or references.
    Beyond,
}

/// Whether a command or metadata message stays within the bounds. A message that breaks off does: the
/// decoder builds no more than what was counted, and refuses it.
pub(super) fn within_bounds(message: &[u8]) -> bool {
    let mut walk = Walk { rest: message, values: 0 };
    loop {
        match walk.value(0) {
            Ok(()) => {}
            Err(End::Short) => return true,
            Err(End::Beyond) => return false,
        }
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Walk<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], End> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(End::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, End> {
        self.take(1).map(|taken| taken.first().copied().unwrap_or_default())
    }

    /// A big-endian length of two or four bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, End> {
        Ok(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// A string with its length before it; returns the length.
    fn string(&mut self, bytes: usize) -> Result<usize, End> {
        let length = self.length(bytes)?;
        self.take(length).map(<[u8]>::len)
    }

    fn value(&mut self, depth: usize) -> Result<(), End> {
        let marker = self.byte()?;
        self.values += 1;
        if self.values > MAX_VALUES || depth > MAX_DEPTH {
            return Err(End::Beyond);
        }
        match marker {
            NUMBER => self.take(8).map(drop),
            BOOLEAN => self.byte().map(drop),
            STRING => self.string(2).map(drop),
            LONG_STRING | XML => self.string(4).map(drop),
            DATE => self.take(10).map(drop),
            REFERENCE => Err(End::Beyond),
            OBJECT => self.properties(depth),
            ECMA_ARRAY => {
                self.take(4)?;
                self.properties(depth)
            }
            TYPED_OBJECT => {
                self.string(2)?;
                self.properties(depth)
            }
            STRICT_ARRAY => {
                let count = self.length(4)?;
                (0..count).try_for_each(|_| self.value(depth + 1))
            }
            // Null, undefined, and whatever else: the marker alone.
            _ => Ok(()),
        }
    }

    fn properties(&mut self, depth: usize) -> Result<(), End> {
        while self.string(2)? > 0 {
            self.value(depth + 1)?;
        }
        // An end marker, or what the decoder takes for one.
        if !self.rest.is_empty() {
            self.byte()?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "amf_tests.rs"]
mod tests;
