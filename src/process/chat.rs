//! Chat files: JSON lines `{"t": seconds, "user", "text"}`, optional `emotes`, `bits`, `kind`.

use anyhow::Context;
use crest_core::chat::{ChatKind, ChatMessage};
use crest_core::{Error, MediaTime, OrganizationId, Session};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::pipeline;

/// The longest line; a message has a few hundred bytes.
const MAX_LINE: u64 = 1 << 20;

#[derive(Deserialize)]
struct Line {
    t: f64,
    #[serde(default)]
    id: Option<String>,
    user: String,
    text: String,
    #[serde(default)]
    emotes: Vec<String>,
    #[serde(default)]
    bits: Option<u32>,
    #[serde(default)]
    kind: ChatKind,
}

/// Reads a chat file, ordered by time.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<ChatMessage>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read chat from {}", path.display()))?;
    let (mut messages, mut file) = (Vec::new(), BufReader::new(file));
    for number in 0.. {
        let line = line(&mut file).with_context(|| format!("{} line {}", path.display(), number + 1))?;
        let Some(line) = line else { break };
        let line = line.trim_start_matches('\u{feff}');
        if line.trim().is_empty() {
            continue;
        }
        messages.push(parse(line).map_err(|e| e.context(format!("{} line {}", path.display(), number + 1)))?);
    }
    messages.sort_by_key(|m: &ChatMessage| m.at);
    Ok(messages)
}

/// The next line; none at the end. A file without line ends is not read into memory as a whole.
fn line(file: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut line = Vec::new();
    file.take(MAX_LINE + 1).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() as u64 > MAX_LINE {
        let message = format!("longer than {MAX_LINE} bytes; chat is one JSON object per line");
        return Err(Error::user(message).into());
    }
    let line =
        String::from_utf8(line).map_err(|_| Error::user("not UTF-8; convert the file, for instance with iconv"))?;
    Ok(Some(line))
}

fn parse(line: &str) -> Result<ChatMessage, Error> {
    let line: Line = serde_json::from_str(line).map_err(|e| {
        Error::user(format!("not a chat message ({e}); expected {{\"t\": seconds, \"user\", \"text\"}}"))
    })?;
    if !line.t.is_finite() || !(0.0..=1e7).contains(&line.t) {
        return Err(Error::user(format!("t is {}, but must be seconds from the start", line.t)));
    }
    Ok(ChatMessage {
        organization_id: OrganizationId::from_raw(pipeline::ORGANIZATION),
        session: Session::new(1),
        at: MediaTime::from_secs_f64(line.t),
        id: line.id,
        user: line.user,
        text: line.text,
        kind: line.kind,
        emotes: line.emotes,
        bits: line.bits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_a_message_says_what_one_is() {
        assert!(parse(r#"{"t": 1.5, "user": "a", "text": "b", "kind": "bits", "bits": 5}"#).is_ok());
        assert!(parse(r#"{"t": -1, "user": "a", "text": "b"}"#).is_err());
        assert!(parse("hello").is_err_and(|e| e.message.contains("\"t\": seconds")));
    }
}
