//! Advertisements that were stitched into a broadcast, as far as its playlist says where they are. They are
//! left out: what happens in them is no moment of the broadcast.
//!
//! Two ways of saying so are in use: `EXT-X-DATERANGE` with a class or a SCTE-35 command (RFC 8216 4.3.2.7; Twitch's
//! class is `twitch-stitched-ad`), and the older `EXT-X-CUE-OUT` and `EXT-X-CUE-IN` between segments.

use crest_core::WallTime;
use m3u8_rs::ExtTag;
use std::collections::HashMap;

/// Milliseconds that an advertisement is taken to last whose end is not said yet.
const UNKNOWN_END: i64 = 120_000;

/// Date ranges of a playlist that are read.
const SPANS: usize = 1000;

/// A stretch of wall-clock time that is an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: WallTime,
    end: WallTime,
}

impl Span {
    /// Whether what was recorded then lies in it. Both ends are rounded by those who write them.
    pub(crate) fn covers(&self, at: WallTime) -> bool {
        const ROUNDING: i64 = 100;
        self.start.0.saturating_sub(ROUNDING) <= at.0 && at.0.saturating_add(ROUNDING) < self.end.0
    }
}

/// Seconds that an advertisement between cues is taken to last which says of neither its length nor its end.
const UNKNOWN_LENGTH: f64 = 300.0;

/// The beginning or the end of an advertisement between two segments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cue {
    /// What follows is one, for so many seconds more where that is said.
    Out(Option<f64>),
    /// What follows is none.
    In,
}

impl Cue {
    /// What the tags before a segment say last.
    pub(crate) fn of(tags: &[ExtTag]) -> Option<Self> {
        let cue = |tag: &ExtTag| match tag.tag.trim_start_matches("EXT-") {
            "X-CUE-OUT" | "X-CUE-OUT-CONT" => Some(Self::Out(tag.rest.as_deref().and_then(left))),
            "X-CUE-IN" => Some(Self::In),
            _ => None,
        };
        tags.iter().filter_map(cue).next_back()
    }
}

/// The seconds that are left by what stands behind a cue: `30`, `DURATION=30`, `10/30`,
/// `ElapsedTime=10,Duration=30`.
fn left(said: &str) -> Option<f64> {
    let named = |names: [&str; 2]| names.iter().find_map(|name| attribute(said, name));
    let (elapsed, length) = match said.split_once('/') {
        Some((elapsed, length)) if !said.contains('=') => (Some(elapsed), Some(length)),
        _ => (named(["ElapsedTime", "ELAPSED"]), named(["DURATION", "Duration"]).or(Some(said))),
    };
    let seconds = |text: &str| text.trim().parse::<f64>().ok().filter(|s| (0.0..86_400.0).contains(s));
    // 0 stands for a length that is not known.
    let length = seconds(length?).filter(|length| *length > 0.0)?;
    Some((length - elapsed.and_then(seconds).unwrap_or(0.0)).max(0.0))
}

/// How many seconds are left of an advertisement between cues, before a segment of `seconds`: `None` while no cue was
/// seen, 0 outside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Break(Option<f64>);

impl Break {
    /// What is left at the beginning of a segment with this cue before it; goes on to its end.
    pub(crate) fn pass(&mut self, cue: Option<Cue>, seconds: f64) -> Option<f64> {
        let at = match cue {
            Some(Cue::Out(Some(left))) => Some(left),
            // One that goes on.
            Some(Cue::Out(None)) => Some(self.0.filter(|left| *left > 0.0).unwrap_or(UNKNOWN_LENGTH)),
            Some(Cue::In) => Some(0.0),
            None => self.0,
        };
        self.0 = at.map(|left| (left - seconds).max(0.0));
        at
    }

    /// Whether a segment is an advertisement at the beginning of which so much is left: lengths are rounded.
    pub(crate) fn covers(left: Option<f64>, seconds: f64) -> bool {
        left.is_some_and(|left| left > seconds / 2.0)
    }
}

/// What is said of a date range, in one tag or in several with its id (RFC 8216 4.3.2.7).
#[derive(Debug, Default)]
struct Range {
    is_ad: bool,
    start: Option<WallTime>,
    end: Option<WallTime>,
    /// Seconds that it lasted, and was to last.
    lasts: Option<f64>,
    planned: Option<f64>,
}

impl Range {
    fn read(&mut self, attributes: &str) {
        let time = |name| WallTime::parse(attribute(attributes, name)?);
        let seconds = |name| attribute(attributes, name)?.parse::<f64>().ok().filter(|s| (0.0..86_400.0).contains(s));
        let class = attribute(attributes, "CLASS").unwrap_or_default();
        self.is_ad |= class.contains("stitched-ad") || attribute(attributes, "SCTE35-OUT").is_some();
        self.start = self.start.or_else(|| time("START-DATE"));
        self.end = self.end.or_else(|| time("END-DATE"));
        self.lasts = self.lasts.or_else(|| seconds("DURATION"));
        self.planned = self.planned.or_else(|| seconds("PLANNED-DURATION"));
    }

    fn span(&self) -> Option<Span> {
        let start = self.start.filter(|_| self.is_ad)?;
        let lasts = self.lasts.or(self.planned).map_or(UNKNOWN_END, |seconds| (seconds * 1000.0) as i64);
        Some(Span { start, end: self.end.unwrap_or_else(|| start.plus_millis(lasts)) })
    }
}

/// The advertisements that a playlist's date ranges name. The playlist's parser keeps one range per segment,
/// and several may stand before the first: they are read here.
pub(crate) fn spans(playlist: &[u8]) -> Vec<Span> {
    let lines = playlist.split(|byte| matches!(byte, b'\n' | b'\r'));
    let tags = lines.filter_map(|line| line.strip_prefix(b"#EXT-X-DATERANGE:"));
    let (mut ranges, mut numbers) = (Vec::new(), HashMap::new());
    for attributes in tags.take(SPANS) {
        let attributes = String::from_utf8_lossy(attributes);
        let id = attribute(&attributes, "ID").unwrap_or_default().to_owned();
        let start = attribute(&attributes, "START-DATE").and_then(WallTime::parse);
        let known = numbers.get(&id).and_then(|number: &usize| ranges.get_mut(*number));
        // Some give each advertisement the same id.
        match known.filter(|range: &&mut Range| start.is_none() || start == range.start) {
            Some(range) => range.read(&attributes),
            None => {
                numbers.insert(id, ranges.len());
                let mut range = Range::default();
                range.read(&attributes);
                ranges.push(range);
            }
        }
    }
    ranges.iter().filter_map(Range::span).collect()
}

/// An attribute's value without its quotation marks.
pub(super) fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = attributes;
    while let Some((key, value)) = rest.split_once('=') {
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"')?;
                (value, after.strip_prefix(',').unwrap_or(after))
            }
            None => value.split_once(',').unwrap_or((value, "")),
        };
        if key.trim() == name {
            return Some(value);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn advertisements_are_told_from_other_ranges() {
        let playlist = b"#EXTM3U\n\
            #EXT-X-DATERANGE:ID=\"playlist-session\",CLASS=\"twitch-session\",START-DATE=\"2026-11-21T10:00:00Z\",END-ON-NEXT=YES\n\
            #EXT-X-DATERANGE:ID=\"a,b=c\",CLASS=\"twitch-stitched-ad\",START-DATE=\"2026-11-21T10:00:04.000Z\",DURATION=30.5,X-TV=\"x\"\r\n\
            #EXT-X-DATERANGE:ID=\"s\",START-DATE=\"2026-11-21T10:10:00Z\",PLANNED-DURATION=15,SCTE35-OUT=0xFC30\n\
            #EXT-X-DATERANGE:ID=\"open\",CLASS=\"twitch-stitched-ad\",START-DATE=\"2026-11-21T11:00:00Z\"\n\
            #EXT-X-DATERANGE:ID=\"broken\",CLASS=\"twitch-stitched-ad\",START-DATE=\"soon\"\n\
            #EXT-X-DATERANGE:CLASS=\"twitch-stitched-ad\n";
        let spans = spans(playlist);
        assert_eq!(spans.len(), 3, "{spans:?}");
        let covered = |at: &str| spans.iter().any(|span| span.covers(WallTime::parse(at).unwrap()));
        for ad in ["2026-11-21T10:00:04Z", "2026-11-21T10:00:30Z", "2026-11-21T10:10:14Z", "2026-11-21T11:01:00Z"] {
            assert!(covered(ad), "{ad}");
        }
        for none in ["2026-11-21T10:00:02Z", "2026-11-21T10:00:34.5Z", "2026-11-21T10:10:15Z", "2026-11-21T11:02:00Z"] {
            assert!(!covered(none), "{none}");
        }
    }

    #[test]
    fn a_range_may_be_told_in_two_tags() {
        let playlist = b"#EXTM3U\n\
            #EXT-X-DATERANGE:ID=\"7\",START-DATE=\"2026-11-21T10:00:00Z\",PLANNED-DURATION=60,SCTE35-OUT=0xFC30\n\
            #EXT-X-DATERANGE:ID=\"8\",START-DATE=\"2026-11-21T10:05:00Z\",DURATION=10\n\
            #EXT-X-DATERANGE:ID=\"7\",DURATION=20,SCTE35-IN=0xFC30\n\
            #EXT-X-DATERANGE:ID=\"7\",START-DATE=\"2026-11-21T11:00:00Z\",DURATION=20,SCTE35-OUT=0xFC30\n";
        let at = |text: &str| WallTime::parse(text).unwrap();
        let spans = spans(playlist);
        let span = |start: &str, end: &str| Span { start: at(start), end: at(end) };
        let second = span("2026-11-21T11:00:00Z", "2026-11-21T11:00:20Z");
        assert_eq!(spans, [span("2026-11-21T10:00:00Z", "2026-11-21T10:00:20Z"), second], "an id that is used again");
    }

    #[test]
    fn the_last_cue_before_a_segment_holds() {
        let tag = |tag: &str, rest: Option<&str>| ExtTag { tag: tag.to_owned(), rest: rest.map(str::to_owned) };
        assert_eq!(Cue::of(&[]), None);
        assert_eq!(Cue::of(&[tag("X-CUE-OUT", None), tag("X-OTHER", None)]), Some(Cue::Out(None)));
        assert_eq!(Cue::of(&[tag("X-CUE-OUT-CONT", Some("10/30")), tag("X-CUE-IN", None)]), Some(Cue::In));
        for (said, seconds) in
            [("30", 30.0), ("DURATION=30.5", 30.5), ("10/30", 20.0), ("ElapsedTime=12,Duration=30,SCTE35=/DA=", 18.0)]
        {
            assert_eq!(Cue::of(&[tag("X-CUE-OUT", Some(said))]), Some(Cue::Out(Some(seconds))), "{said}");
        }
        for unknown in ["soon", "0", "DURATION=0.000", "12/0"] {
            assert_eq!(Cue::of(&[tag("X-CUE-OUT", Some(unknown))]), Some(Cue::Out(None)), "{unknown}");
        }
    }

    #[test]
    fn an_advertisement_ends_with_its_length_or_its_cue() {
        let ads = |cues: &[Option<Cue>]| {
            let mut of = Break::default();
            let pieces = cues.iter().map(|cue| Break::covers(of.pass(*cue, 5.9), 5.9));
            pieces.collect::<Vec<_>>()
        };
        let (out, long) = (Some(Cue::Out(Some(12.0))), Some(Cue::Out(None)));
        assert_eq!(ads(&[None, out, None, None]), [false, true, true, false]);
        assert_eq!(ads(&[long, None, Some(Cue::In), None]), [true, true, false, false]);
        assert_eq!(ads(&[out, long, None]), [true, true, false], "one that goes on has its length");
        assert_eq!(ads(&[long; 60]).iter().filter(|ad| **ad).count(), 60, "as long as it is said anew");
        let endless = [&[long][..], &[None; 99]].concat();
        assert_eq!(ads(&endless).iter().filter(|ad| **ad).count(), 51, "300 s");
    }
}
