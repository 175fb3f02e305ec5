//! Fragments back into access units. Files may be cut short or damaged: every range is checked.

use bytes::Bytes;
use crest_core::segment::Fragment;
use crest_core::{Error, Result};
use mp4_atom::{Atom, DecodeMaybe, Header, Mdat, Moof, Moov, Traf};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

use super::entry;
use super::fragment::is_sync;
use super::init;
use super::track::{AUDIO, Timing, Tracks, VIDEO};

/// Largest header that is read. Ours are about one kilobyte.
pub(crate) const MAX_HEADER: u64 = 1 << 20;
/// Largest `moof` that is read: several hundred thousand samples.
pub(crate) const MAX_INDEX: u64 = 16 << 20;

/// When an access unit plays and where it lies in its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located {
    pub timing: Timing,
    pub offset: u64,
    pub size: u32,
}

/// The access units of a fragment, in decoding order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub video: Vec<Located>,
    pub audio: Vec<Located>,
}

/// An open segment file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: File,
    length: u64,
    object: String,
    /// What its header says it carries.
    pub tracks: Tracks,
}

impl SegmentFile {
    /// Opens the file of `fragment` and reads its header.
    pub(crate) fn open(root: &Path, fragment: &Fragment) -> Result<Self> {
        let relative = Path::new(&fragment.object);
        if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(Error::ours(format!("'{}' is not an object key", fragment.object)));
        }
        let object = fragment.object.clone();
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::not_found(format!("segment {object} is gone (retention removes old ones)"))
            }
            _ => Error::outside(format!("cannot read segment {object}: {e}")),
        };
        let file = File::open(root.join(relative)).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut this = Self { file, length, object: fragment.object.clone(), tracks: Tracks::default() };
        let header = this.read(0, fragment.header_bytes, MAX_HEADER)?;
        this.tracks = parse_header(&header).map_err(|e| this.damaged(&e.message))?;
        // A clip's header says the same again.
        init::fragmented(&this.tracks).map_err(|e| this.damaged(&e.message))?;
        Ok(this)
    }

    /// What lies in `fragment`, without reading the media itself.
    pub(crate) fn index(&self, fragment: &Fragment) -> Result<Index> {
        let end = fragment.offset.checked_add(fragment.bytes).filter(|end| *end <= self.length);
        if end.is_none() {
            return Err(self.damaged("a fragment reaches beyond the end of the file"));
        }
        let start = self.read(fragment.offset, fragment.bytes.min(8), 8)?;
        let size = start.first_chunk::<4>().map_or(0, |size| u32::from_be_bytes(*size));
        if u64::from(size) > fragment.bytes {
            return Err(self.damaged("a fragment's index is longer than the fragment"));
        }
        let moof = self.read(fragment.offset, u64::from(size), MAX_INDEX)?;
        let index = parse_index(&moof, fragment.offset, fragment.bytes).map_err(|e| self.damaged(&e.message))?;
        let nameless = |units: &[Located], named: bool| !units.is_empty() && !named;
        if nameless(&index.video, self.tracks.video.is_some()) || nameless(&index.audio, self.tracks.audio.is_some()) {
            return Err(self.damaged("a fragment holds a track that the header does not name"));
        }
        Ok(index)
    }

    /// The bytes of one access unit, or of several that lie side by side.
    pub(crate) fn read(&self, offset: u64, bytes: u64, limit: u64) -> Result<Bytes> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.length) || bytes > limit {
            return Err(self.damaged("a range lies outside the file or is too long"));
        }
        let mut buffer = vec![0; usize::try_from(bytes).map_err(|_| self.damaged("a range is too long"))?];
        self.file
            .read_exact_at(&mut buffer, offset)
            .map_err(|e| Error::outside(format!("cannot read segment {}: {e}", self.object)))?;
        Ok(Bytes::from(buffer))
    }

    fn damaged(&self, what: &str) -> Error {
        Error { retryable: false, ..Error::outside(format!("segment {} is damaged: {what}", self.object)) }
    }
}

/// The tracks that a header announces.
pub(crate) fn parse_header(header: &[u8]) -> Result<Tracks> {
    let mut tracks = Tracks::default();
    let mut rest = header;
    while let Some((atom, body, after)) = next_box(rest)? {
        rest = after;
        if atom.kind != Moov::KIND {
            continue;
        }
        let mut body = body;
        let moov = Moov::decode_body(&mut body).map_err(bad)?;
        for trak in &moov.trak {
            let Some(codec) = trak.mdia.minf.stbl.stsd.codecs.first() else { continue };
            match trak.tkhd.track_id {
                VIDEO => tracks.video = entry::video_config(codec),
                AUDIO => tracks.audio = entry::audio_config(codec, trak.mdia.mdhd.timescale),
                _ => {}
            }
        }
    }
    if tracks.video.is_none() && tracks.audio.is_none() {
        return Err(Error::outside("its header names no track that crest writes"));
    }
    Ok(tracks)
}

/// Reads a `moof` that begins at `start` of the file, in a fragment of `bytes`.
pub(crate) fn parse_index(moof: &[u8], start: u64, bytes: u64) -> Result<Index> {
    let Some((atom, mut body, _)) = next_box(moof)? else {
        return Err(Error::outside("a fragment without an index"));
    };
    if atom.kind != Moof::KIND {
        return Err(Error::outside("a fragment that does not start with its index"));
    }
    let moof_length = moof.len() as u64;
    let mut index = Index::default();
    for traf in &Moof::decode_body(&mut body).map_err(bad)?.traf {
        let located = locate(traf, start, moof_length, bytes)?;
        match traf.tfhd.track_id {
            VIDEO => index.video.extend(located),
            AUDIO => index.audio.extend(located),
            _ => {}
        }
    }
    Ok(index)
}

fn locate(traf: &Traf, start: u64, moof_length: u64, bytes: u64) -> Result<Vec<Located>> {
    let outside = || Error::outside("an access unit lies outside its fragment");
    let mut dts = traf.tfdt.as_ref().and_then(|t| i64::try_from(t.base_media_decode_time).ok()).ok_or_else(outside)?;
    let mut out = Vec::new();
    for run in &traf.trun {
        let mut offset = u64::try_from(run.data_offset.unwrap_or(-1)).map_err(|_| outside())?;
        for sample in &run.samples {
            // Ours says all of this for each sample; a run that inherits is not ours, and could claim any count.
            let (Some(size), Some(duration), Some(flags)) = (sample.size, sample.duration, sample.flags) else {
                return Err(Error::outside("a fragment that crest did not write"));
            };
            let end = offset + u64::from(size);
            if offset < moof_length + 8 || end > bytes {
                return Err(outside());
            }
            let pts = dts.checked_add(sample.cts.unwrap_or(0)).ok_or_else(outside)?;
            let timing = Timing { dts, pts, duration, keyframe: is_sync(flags) };
            out.push(Located { timing, offset: start + offset, size });
            dts = dts.checked_add(i64::from(duration)).ok_or_else(outside)?;
            offset = end;
        }
    }
    Ok(out)
}

/// A box's header, its body, and what follows it.
type Split<'a> = (Header, &'a [u8], &'a [u8]);

/// Splits off the first box; `None` at the end.
fn next_box(data: &[u8]) -> Result<Option<Split<'_>>> {
    let mut rest = data;
    let Some(header) = Header::decode_maybe(&mut rest).map_err(bad)? else { return Ok(None) };
    let size = header.size.ok_or_else(|| Error::outside("a box without a size"))?;
    match rest.split_at_checked(size) {
        Some((body, after)) => Ok(Some((header, body, after))),
        None if header.kind == Mdat::KIND => Ok(None),
        None => Err(Error::outside("a box reaches beyond its file")),
    }
}

fn bad(e: mp4_atom::Error) -> Error {
    Error::outside(e.to_string())
}
