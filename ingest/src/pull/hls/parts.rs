//! Low-latency HLS (RFC 8216bis, draft-pantos-hls-rfc8216bis): segments that are listed part by part while they are
//! made, and a server that answers when there is a new one.

use m3u8_rs::ExtTag;
use reqwest::Url;
use std::time::Duration;

use super::super::http::Range;
use super::ads::attribute;
use super::playlist::{Resource, join};

/// Parts of a playlist that are read. A server lists those of its last three target durations.
const PARTS: usize = 4000;
/// What a segment that is still being made is called where the playlist is read: it has no address yet.
const OPEN: &str = "crest-open-segment";

/// A part of a segment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) at: Resource,
    pub(crate) seconds: f64,
    /// It is missing.
    pub(crate) gap: bool,
}

/// How a server keeps its delay low.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LowLatency {
    /// No part lasts longer.
    pub(crate) part_target: Duration,
    /// How far from its end the playlist is to be begun.
    pub(crate) hold_back: Duration,
    /// Whether parts are taken, or whole segments as soon as they are there.
    pub(crate) in_parts: bool,
}

/// What the tags of low-latency HLS say, as they are met.
#[derive(Debug, Default)]
pub(super) struct Tags {
    can_block: bool,
    hold_back: Option<Duration>,
    part_target: Option<Duration>,
    /// What the server will have next.
    pub(super) hint: Option<Resource>,
    /// Where the last part ended in its file.
    end: Option<(Url, u64)>,
    parts: usize,
}

impl Tags {
    /// Takes note of a segment's tags, and returns its parts.
    pub(super) fn read(&mut self, tags: &[ExtTag], base: &Url) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        for tag in tags {
            let attributes = tag.rest.as_deref().unwrap_or_default();
            match tag.tag.as_str() {
                "X-SERVER-CONTROL" => {
                    self.can_block = attribute(attributes, "CAN-BLOCK-RELOAD") == Some("YES");
                    self.hold_back = seconds(attributes, "PART-HOLD-BACK").map(Duration::from_secs_f64);
                }
                "X-PART-INF" => self.part_target = seconds(attributes, "PART-TARGET").map(Duration::from_secs_f64),
                "X-PART" => {
                    self.parts += 1;
                    if self.parts > PARTS {
                        return Err(format!("the playlist has more than {PARTS} parts"));
                    }
                    parts.extend(self.part(attributes, base)?);
                }
                "X-PRELOAD-HINT" if attribute(attributes, "TYPE") == Some("PART") => {
                    self.hint = hint(attributes, base)?;
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    /// How the playlist is followed with less delay, where the server waits for what is new. One that does not
    /// would have to be asked several times a second.
    pub(super) fn low_latency(&self, in_parts: bool) -> Option<LowLatency> {
        let part_target = self.part_target.filter(|_| self.can_block)?;
        let hold_back = self.hold_back.unwrap_or(part_target * 3);
        Some(LowLatency { part_target, hold_back, in_parts: in_parts && self.parts > 0 })
    }

    fn part(&mut self, attributes: &str, base: &Url) -> Result<Option<Part>, String> {
        let (Some(uri), Some(seconds)) = (attribute(attributes, "URI"), seconds(attributes, "DURATION")) else {
            return Ok(None);
        };
        let url = join(base, uri)?;
        let range = attribute(attributes, "BYTERANGE").and_then(|said| {
            let (length, start) = said.split_once('@').map_or((said, None), |(length, start)| (length, Some(start)));
            // Without a beginning it follows the part before it.
            let follows = self.end.as_ref().filter(|(of, _)| *of == url).map_or(0, |(_, end)| *end);
            let start = start.map_or(Some(follows), |start| start.parse().ok())?;
            Some(Range { start, length: length.parse().ok()? })
        });
        self.end = range.map(|range| (url.clone(), range.start.saturating_add(range.length)));
        let gap = attribute(attributes, "GAP") == Some("YES");
        Ok(Some(Part { at: Resource { url, range }, seconds, gap }))
    }
}

/// What will be there next; nothing where it is not said how much of a file that is.
fn hint(attributes: &str, base: &Url) -> Result<Option<Resource>, String> {
    let Some(uri) = attribute(attributes, "URI") else { return Ok(None) };
    let number = |name| attribute(attributes, name).map(str::parse::<u64>);
    let range = match (number("BYTERANGE-START"), number("BYTERANGE-LENGTH")) {
        (None, None) => None,
        (start, Some(Ok(length))) => Some(Range { start: start.and_then(Result::ok).unwrap_or(0), length }),
        _ => return Ok(None),
    };
    Ok(Some(Resource { url: join(base, uri)?, range }))
}

fn seconds(attributes: &str, name: &str) -> Option<f64> {
    attribute(attributes, name)?.parse().ok().filter(|seconds| (0.001..=3600.0).contains(seconds))
}

/// The playlist with an address for the segment that is still being made, so that what is said of it is read as
/// that of any other; `None` where there are no parts.
pub(super) fn with_open(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.any(|line| line.starts_with(b"#EXT-X-PART")).then(|| {
        let mut text = text.to_vec();
        text.extend_from_slice(format!("\n#EXTINF:0,\n{OPEN}\n").as_bytes());
        text
    })
}

/// Whether this is the segment of [`with_open`].
pub(super) fn is_open(uri: &str) -> bool {
    uri == OPEN
}

/// The playlist's address, asking the server to wait for this segment, or this part of it.
pub(super) fn waiting(url: &Url, sequence: u64, part: Option<usize>) -> Url {
    let mut url = url.clone();
    let mut query = url.query_pairs_mut();
    query.append_pair("_HLS_msn", &sequence.to_string());
    if let Some(part) = part {
        query.append_pair("_HLS_part", &part.to_string());
    }
    drop(query);
    url
}
