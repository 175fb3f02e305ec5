//! Playlists (RFC 8216) as they are followed: which variant, which pieces, when they were recorded.

use crest_core::WallTime;
use m3u8_rs::{AlternativeMediaType, MasterPlaylist, MediaPlaylist, Playlist};
use reqwest::Url;
use std::time::Duration;

use super::super::http::Range;
use super::ads::{self, Cue};
use super::key::Encryption;
use super::parts::{self, LowLatency, Part};

/// Lines of a playlist that are read: a day of two-second pieces with a date each, and some.
const LINES: usize = 200_000;
/// Bytes that the addresses of its pieces may take, all together: what is said once is kept with each.
const ADDRESSES: usize = 32 << 20;

/// What a playlist turns out to be.
#[derive(Debug)]
pub(crate) enum Listing {
    /// It names other playlists.
    Master(Master),
    /// It names media.
    Media(Media),
}

/// The playlists to follow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Master {
    /// The variant, with its picture and, unless there is an `audio`, its sound.
    pub(crate) main: Url,
    /// The sound, where it has a playlist of its own.
    pub(crate) audio: Option<Url>,
    /// Which audio track of the variant is taken, where that was chosen and the playlist names no such rendition.
    pub(crate) within: Option<u8>,
}

/// Pieces of media.
#[derive(Debug)]
pub(crate) struct Media {
    /// No piece lasts longer.
    pub(crate) target: Duration,
    /// Nothing will follow: it is a recording, or a broadcast that has ended.
    pub(crate) over: bool,
    /// It says how many discontinuities have left it, or none can have.
    pub(crate) counted: bool,
    /// The last one may be without its end.
    pub(crate) pieces: Vec<Piece>,
    /// How it can be followed with little delay, where its server offers that.
    pub(crate) low_latency: Option<LowLatency>,
    /// The part that its server will have next.
    pub(crate) hint: Option<Resource>,
}

/// Where bytes are: a file, or a range of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) url: Url,
    pub(crate) range: Option<Range>,
}

/// The initialisation of fragmented MP4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) at: Resource,
    /// How it may be encrypted: the playlist's parser does not keep which came first, the key or this.
    pub(crate) encryption: Option<Encryption>,
}

/// A media segment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) sequence: u64,
    /// Where all of it is; nowhere while it is being made.
    pub(crate) whole: Option<Resource>,
    /// Its parts, as far as they are listed: from the first on, or not at all.
    pub(crate) parts: Vec<Part>,
    pub(crate) map: Option<Map>,
    /// What comes is unlike what was: other timestamps, other parameters.
    pub(crate) discontinuity: bool,
    /// Discontinuities from the beginning of the broadcast to this piece, its own among them. All playlists of a
    /// broadcast count alike (RFC 8216 6.2.4).
    pub(crate) timeline: u64,
    pub(crate) seconds: f64,
    /// When it was recorded, where the playlist says so.
    pub(crate) at: Option<WallTime>,
    /// It lies in a stretch that the playlist calls an advertisement.
    pub(crate) ad: bool,
    /// Seconds that are left of an advertisement between cues where it begins; unknown where no cue is listed before.
    pub(crate) break_left: Option<f64>,
    /// Its server says that it does not have it (`EXT-X-GAP`).
    pub(crate) gap: bool,
    /// How it is encrypted, if it is.
    pub(crate) encryption: Option<Encryption>,
}

impl Piece {
    /// The same without its parts, of which there may be thousands.
    pub(super) fn without_parts(&self) -> Self {
        Self {
            sequence: self.sequence,
            whole: self.whole.clone(),
            parts: Vec::new(),
            map: self.map.clone(),
            discontinuity: self.discontinuity,
            timeline: self.timeline,
            seconds: self.seconds,
            at: self.at,
            ad: self.ad,
            break_left: self.break_left,
            gap: self.gap,
            encryption: self.encryption.clone(),
        }
    }
}

/// Reads a playlist that was found at `base`. Of variants the best is taken with at most `max_height` lines, of its
/// audio renditions number `track` from 0, or the one that the playlist prefers.
pub(crate) fn parse(text: &[u8], base: &Url, max_height: u32, track: Option<u8>) -> Result<Listing, String> {
    if text.iter().filter(|byte| **byte == b'\n').count() > LINES {
        return Err(format!("the playlist has more than {LINES} lines"));
    }
    let with_open = parts::with_open(text);
    match m3u8_rs::parse_playlist_res(with_open.as_deref().unwrap_or(text)) {
        Ok(Playlist::MasterPlaylist(master)) => choose(&master, base, max_height, track).map(Listing::Master),
        Ok(Playlist::MediaPlaylist(media)) => {
            let counted = media.media_sequence == 0
                || text.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"#EXT-X-DISCONTINUITY-SEQUENCE"));
            pieces(media, base, &ads::spans(text), counted).map(Listing::Media)
        }
        Err(_) => Err("what is there is no playlist".to_owned()),
    }
}

fn choose(master: &MasterPlaylist, base: &Url, max_height: u32, track: Option<u8>) -> Result<Master, String> {
    let height = |v: &m3u8_rs::VariantStream| v.resolution.map_or(0, |resolution| resolution.height);
    let usable: Vec<_> = master.variants.iter().filter(|v| !v.is_i_frame && can_be_read(v.codecs.as_deref())).collect();
    let within = usable.iter().filter(|v| height(v) <= u64::from(max_height));
    // A variant without a resolution may be sound alone: those with one come first.
    let heard = |v: &m3u8_rs::VariantStream| can_be_heard(v.codecs.as_deref());
    let best = within.max_by_key(|v| (v.resolution.is_some(), height(v), heard(v), v.bandwidth));
    let smallest = || usable.iter().min_by_key(|v| (height(v), !heard(v), v.bandwidth));
    let variant = best.or_else(smallest).ok_or("the playlist has no variant in H.264 or H.265")?;
    let rendition = variant.audio.as_deref().and_then(|group| {
        let of_group =
            |m: &&m3u8_rs::AlternativeMedia| m.media_type == AlternativeMediaType::Audio && m.group_id == group;
        let renditions = || master.alternatives.iter().filter(of_group);
        match track {
            Some(track) => renditions().nth(usize::from(track)),
            None => renditions().find(|rendition| rendition.default).or_else(|| renditions().next()),
        }
    });
    let within = track.filter(|_| rendition.is_none());
    // A rendition without an address is in the variant itself.
    let audio = rendition.and_then(|rendition| rendition.uri.as_deref()).map(|uri| join(base, uri)).transpose()?;
    Ok(Master { main: join(base, &variant.uri)?, audio, within })
}

/// Whether the picture, if `codecs` says what it is, is in a codec that is read.
fn can_be_read(codecs: Option<&str>) -> bool {
    const OTHERS: [&str; 6] = ["av01", "vp09", "vp9", "vp08", "dvh1", "dvhe"];
    let other = |codec: &str| OTHERS.iter().any(|other| codec.trim().starts_with(other));
    codecs.is_none_or(|codecs| !codecs.split(',').any(other))
}

/// Whether all of the sound, as far as `codecs` says what it is, is in a codec that is read: AAC. The same picture is
/// often offered with several, and what costs more bits is not what can be heard.
fn can_be_heard(codecs: Option<&str>) -> bool {
    // Dolby, DTS and others under their own names; the same and MP3 as MPEG-4 numbers them.
    const OTHERS: [&str; 9] = ["ac-3", "ec-3", "ac-4", "dts", "mha", "mhm", "flac", "alac", "opus"];
    const NUMBERED: [&str; 7] = ["a5", "a6", "a9", "69", "6b", "40.33", "40.34"];
    let other = |codec: &str| {
        let codec = codec.trim().to_ascii_lowercase();
        let numbered = codec.strip_prefix("mp4a.").is_some_and(|number| NUMBERED.contains(&number));
        numbered || OTHERS.iter().any(|other| codec.starts_with(other))
    };
    codecs.is_none_or(|codecs| !codecs.split(',').any(other))
}

fn pieces(media: MediaPlaylist, base: &Url, ads: &[ads::Span], counted: bool) -> Result<Media, String> {
    if media.i_frames_only {
        return Err("the playlist holds keyframes alone".to_owned());
    }
    // What is said once holds until it is said anew.
    let (mut map, mut encryption, mut at, mut range_end) = (None, None, None::<WallTime>, None::<(Url, u64)>);
    let (mut pieces, mut addresses) = (Vec::with_capacity(media.segments.len()), 0_usize);
    let (mut tags, mut cues) = (parts::Tags::default(), ads::Break::default());
    // Numbers are counted on from here.
    let first = media.media_sequence.min(u64::MAX / 2);
    let mut timeline = media.discontinuity_sequence.min(u64::MAX / 2);
    for (sequence, segment) in (first..).zip(&media.segments) {
        if let Some(key) = &segment.key {
            encryption = Encryption::read(key, base)?;
        }
        // The library does not take a key without an address for a key.
        let no_key =
            |tag: &m3u8_rs::ExtTag| tag.tag == "X-KEY" && tag.rest.as_deref().is_some_and(|r| r.contains("NONE"));
        if segment.unknown_tags.iter().any(no_key) {
            encryption = None;
        }
        if let Some(said) = &segment.map {
            let range = said.byte_range.as_ref();
            let range = range.map(|r| Range { start: r.offset.unwrap_or(0), length: r.length });
            map = Some(Map { at: Resource { url: join(base, &said.uri)?, range }, encryption: encryption.clone() });
        }
        let parts = tags.read(&segment.unknown_tags, base)?;
        let is_last = pieces.len() + 1 == media.segments.len();
        let whole = match is_last && parts::is_open(&segment.uri) {
            true => None,
            false => {
                let url = join(base, &segment.uri)?;
                let range = segment.byte_range.as_ref().map(|said| {
                    let follows = range_end.as_ref().filter(|(of, _)| *of == url).map_or(0, |(_, end)| *end);
                    Range { start: said.offset.unwrap_or(follows), length: said.length }
                });
                range_end = range.map(|range| (url.clone(), range.start.saturating_add(range.length)));
                Some(Resource { url, range })
            }
        };
        if let Some(said) = segment.program_date_time {
            at = Some(WallTime(said.timestamp_millis()));
        }
        let map_size = |map: &Map| map.at.url.as_str().len() + map.encryption.as_ref().map_or(0, Encryption::size);
        addresses += whole.as_ref().map_or(0, |whole| whole.url.as_str().len());
        addresses += parts.iter().map(|part| part.at.url.as_str().len()).sum::<usize>();
        addresses += map.as_ref().map_or(0, map_size) + encryption.as_ref().map_or(0, Encryption::size);
        if addresses > ADDRESSES {
            return Err("the addresses in the playlist are too long".to_owned());
        }
        timeline += u64::from(segment.discontinuity);
        let seconds = f64::from(segment.duration).clamp(0.0, 3600.0);
        pieces.push(Piece {
            sequence,
            whole,
            parts,
            map: map.clone(),
            discontinuity: segment.discontinuity,
            timeline,
            seconds,
            at,
            ad: at.is_some_and(|at| ads.iter().any(|span| span.covers(at))),
            break_left: cues.pass(Cue::of(&segment.unknown_tags), seconds),
            gap: segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP"),
            encryption: encryption.clone(),
        });
        at = at.map(|at| at.plus_millis((seconds * 1000.0) as i64));
    }
    let longest = pieces.iter().map(|piece: &Piece| piece.seconds).fold(0.0, f64::max);
    let target = if media.target_duration == 0 { longest } else { media.target_duration.min(3600) as f64 };
    // How CBC goes on from part to part is not said clearly enough to rely on it.
    let low_latency = tags.low_latency(pieces.iter().all(|piece| piece.encryption.is_none()));
    pieces.iter_mut().filter(|piece| piece.encryption.is_some()).for_each(|piece| piece.parts.clear());
    if !low_latency.is_some_and(|low| low.in_parts) || media.end_list {
        // Of one that was begun in parts the rest is taken in parts still.
        pieces.retain(|piece| piece.whole.is_some());
    }
    let target = Duration::from_secs_f64(target);
    Ok(Media { target, over: media.end_list, counted, pieces, low_latency, hint: tags.hint })
}

/// An address that is named in a playlist.
pub(super) fn join(base: &Url, uri: &str) -> Result<Url, String> {
    base.join(uri.trim()).map_err(|error| format!("the playlist names an address that is none: {error}"))
}

#[cfg(test)]
#[path = "playlist_tests.rs"]
mod tests;
