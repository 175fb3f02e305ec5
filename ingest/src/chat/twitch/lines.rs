//! Lines of a connection, within a bound: what is longer is skipped and counted, and nothing is lost when waiting
//! for one is given up.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::PLATFORM;
use crate::chat::follower::left_out;

/// Reads lines.
pub(super) struct Lines<R> {
    from: R,
    most: usize,
    line: Vec<u8>,
    /// The line is too long; the rest of it is skipped.
    skipping: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Lines of at most so many bytes.
    pub(super) fn new(from: R, most: usize) -> Self {
        Self { from, most, line: Vec::new(), skipping: false }
    }

    /// The next line without its end; `None` at the end of the connection. May be given up and called again.
    pub(super) async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            let buffer = self.from.fill_buf().await?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            if !self.skipping && self.line.len() + part.len() > self.most {
                self.skipping = true;
                self.line.clear();
                left_out(PLATFORM, "too_long");
            }
            if !self.skipping {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.from.consume(used);
            if end.is_none() {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if !std::mem::take(&mut self.skipping) {
                return Ok(Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_within_the_bound_are_read_and_longer_ones_skipped() {
        let bytes = [b"PING :a\r\n".as_slice(), &[b'x'; 5000], b"\r\n\r\nno\xffUTF-8\nthe rest"].concat();
        let mut lines = Lines::new(tokio::io::BufReader::with_capacity(64, bytes.as_slice()), 1000);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            read.push(line);
        }
        assert_eq!(read, ["PING :a", "", "no\u{fffd}UTF-8"]);
    }
}
