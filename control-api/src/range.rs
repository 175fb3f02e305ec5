//! The `Range` header: which bytes of a file are wanted.

/// What a range request asks for, given the file's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no range, one that is not understood, or several.
    Whole,
    /// The bytes from `start` to `end`, both included; both lie in the file.
    Part {
        /// The first.
        start: u64,
        /// The last.
        end: u64,
    },
    /// Bytes that the file does not have.
    Nothing,
}

/// Reads a `Range` header. What is malformed is ignored, as RFC 9110 wants it.
pub fn wanted(header: Option<&str>, length: u64) -> Wanted {
    let ranges =
        header.and_then(|value| value.split_once('=')).filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"));
    let Some((_, ranges)) = ranges else { return Wanted::Whole };
    let mut parts = Vec::new();
    for range in ranges.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        match one(range, length) {
            Some(part) => parts.push(part),
            None => return Wanted::Whole,
        }
    }
    match parts.as_slice() {
        [] => Wanted::Whole,
        [only] => *only,
        // Several: the whole file answers them too, and spares everybody the multipart body.
        many if many.iter().any(|part| *part != Wanted::Nothing) => Wanted::Whole,
        _ => Wanted::Nothing,
    }
}

/// One range; `None` where it is malformed.
fn one(range: &str, length: u64) -> Option<Wanted> {
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(match length.checked_sub(1) {
            Some(end) if suffix > 0 => Wanted::Part { start: length.saturating_sub(suffix), end },
            _ => Wanted::Nothing,
        });
    }
    let start = number(first)?;
    let end = if last.is_empty() { u64::MAX } else { number(last)? };
    if end < start {
        return None;
    }
    Some(if start < length { Wanted::Part { start, end: end.min(length - 1) } } else { Wanted::Nothing })
}

/// Digits only; what does not fit is further than any file reaches.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::Wanted::{Nothing, Part, Whole};
    use super::*;

    #[test]
    fn ranges_are_read_as_players_send_them() {
        for (header, expected) in [
            ("bytes=0-", Part { start: 0, end: 99 }),
            ("bytes=0-0", Part { start: 0, end: 0 }),
            ("bytes=10-19", Part { start: 10, end: 19 }),
            ("Bytes=10-1000", Part { start: 10, end: 99 }),
            ("bytes=99-99999999999999999999999999", Part { start: 99, end: 99 }),
            ("bytes=-5", Part { start: 95, end: 99 }),
            ("bytes=-500", Part { start: 0, end: 99 }),
            ("bytes=-0", Nothing),
            ("bytes=100-", Nothing),
            ("bytes=99999999999999999999999999-", Nothing),
            ("bytes=0-0,-1", Whole),
            ("bytes=100-,200-", Nothing),
            ("bytes=5-4", Whole),
            ("bytes=a-b", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=+1-2", Whole),
            ("items=0-1", Whole),
            ("0-1", Whole),
        ] {
            assert_eq!(wanted(Some(header), 100), expected, "{header}");
        }
        assert_eq!(wanted(None, 100), Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Nothing);
        assert_eq!(wanted(Some("bytes=-1"), 0), Nothing);
    }
}
