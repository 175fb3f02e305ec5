//! Fragments that a segment file holds and the index does not know: what a kill between the two, or a
//! loss of power, leaves. And the other way round: fragments that are on the disk before they are
//! indexed.

use crest_core::codec::{VideoCodec, VideoConfig};
use crest_core::segment::Fragment;
use crest_core::{Error, Result, object};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::bitstream::av1;
use crate::mp4::read::{Index, Located, MAX_HEADER, MAX_INDEX, parse_header, parse_index};
use crate::mp4::track::{Tracks, VIDEO_TIMESCALE, time};

/// Brings a fragment to the disk, with the names that lead to it where it is its file's first. The
/// index waits for the disk; without this it could outlive what it names.
pub fn make_durable(root: &Path, fragment: &Fragment) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::outside(format!("cannot bring {} to the disk: {e}; check the data directory's disk", fragment.object))
    };
    File::open(root.join(&fragment.object)).and_then(|file| file.sync_data()).map_err(failed)?;
    if fragment.offset == fragment.header_bytes {
        for folder in Path::new(&fragment.object).ancestors().skip(1) {
            File::open(root.join(folder)).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
    }
    Ok(())
}

/// The whole fragments of segment file `object` from byte `from` on, where the last known one ends; 0
/// for a file of which none is known. It ends at the first that is cut short or damaged.
///
/// # Errors
/// When the file cannot be read, or is none that crest wrote.
pub fn salvage(root: &Path, object: &str, from: u64) -> Result<Vec<Fragment>> {
    let (organization_id, stream_id, session) = object::session_of_segment(object)
        .ok_or_else(|| Error::ours(format!("'{object}' is not the key of a segment file")))?;
    let failed = |e: std::io::Error| Error::outside(format!("cannot read segment {object}: {e}"));
    let file = File::open(root.join(object)).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let file = Boxes { file, length };
    let Some((header_bytes, tracks)) = file.header() else { return Ok(Vec::new()) };
    let mut offset = from.max(header_bytes);
    let mut found = Vec::new();
    while let Some((bytes, index)) = file.fragment(offset, &tracks) {
        let times = |located: &[Located], timescale: u32| {
            let start = located.iter().map(|l| time(l.timing.pts, timescale)).min();
            let end = located.iter().map(|l| time(l.timing.pts + i64::from(l.timing.duration), timescale)).max();
            start.zip(end)
        };
        let spans = [times(&index.video, VIDEO_TIMESCALE), times(&index.audio, tracks.audio_timescale())];
        let spans = || spans.iter().flatten();
        let (Some(start), Some(end)) = (spans().map(|s| s.0).min(), spans().map(|s| s.1).max()) else { break };
        found.push(Fragment {
            organization_id: organization_id.clone(),
            stream_id: stream_id.clone(),
            session,
            object: object.to_owned(),
            header_bytes,
            offset,
            bytes,
            start,
            end,
            keyframe: index.video.first().is_none_or(|first| first.timing.keyframe),
        });
        offset += bytes;
    }
    Ok(found)
}

struct Boxes {
    file: File,
    length: u64,
}

impl Boxes {
    /// The size of the box at `at`, if it is of this kind and whole.
    fn whole(&self, at: u64, kind: &[u8; 4]) -> Option<u64> {
        let head = self.read(at, 8)?;
        let (size, rest) = head.split_first_chunk::<4>()?;
        let size = match u32::from_be_bytes(*size) {
            1 => u64::from_be_bytes(self.read(at + 8, 8)?.try_into().ok()?),
            size => u64::from(size),
        };
        (rest == kind && size >= 8 && at.checked_add(size)? <= self.length).then_some(size)
    }

    fn read(&self, at: u64, bytes: u64) -> Option<Vec<u8>> {
        if at.checked_add(bytes)? > self.length {
            return None;
        }
        let mut buffer = vec![0; usize::try_from(bytes).ok()?];
        self.file.read_exact_at(&mut buffer, at).ok()?;
        Some(buffer)
    }

    /// Size and content of the file's header.
    fn header(&self) -> Option<(u64, Tracks)> {
        let brand = self.whole(0, b"ftyp")?;
        let bytes = brand + self.whole(brand, b"moov")?;
        let tracks = parse_header(&self.read(0, Some(bytes).filter(|bytes| *bytes <= MAX_HEADER)?)?).ok()?;
        Some((bytes, tracks))
    }

    /// Size and content of the fragment at `at`, if all of it is there.
    fn fragment(&self, at: u64, tracks: &Tracks) -> Option<(u64, Index)> {
        let head = self.whole(at, b"moof").filter(|bytes| *bytes <= MAX_INDEX)?;
        let bytes = head + self.whole(at + head, b"mdat")?;
        let index = parse_index(&self.read(at, head)?, at, bytes).ok()?;
        // A file's length may have reached the disk without its content; zeros stand there then.
        let config = tracks.video.as_ref();
        let whole = |unit: &[u8]| config.is_none_or(|config| is_whole(config, unit));
        let pictures = index.video.iter().all(|l| self.unit(l).is_some_and(|unit| whole(&unit)));
        let sounds = index.audio.iter().all(|l| self.unit(l).is_some_and(|unit| is_written(&unit)));
        (pictures && sounds).then_some((bytes, index))
    }

    fn unit(&self, located: &Located) -> Option<Vec<u8>> {
        self.read(located.offset, u64::from(located.size))
    }
}

/// Whether an access unit can be what was written, as far as its codec lets that be seen.
fn is_whole(config: &VideoConfig, unit: &[u8]) -> bool {
    let lengths = match config.codec {
        VideoCodec::H264 => config.record.get(4),
        VideoCodec::H265 => config.record.get(21),
        VideoCodec::Av1 => return av1::is_chain(unit) && is_written(unit),
        // Each frame begins with its marker, never with zeros.
        VideoCodec::Vp9 => return unit.first().is_some_and(|byte| byte >> 6 == 2) && is_written(unit),
        VideoCodec::Vp8 => return is_written(unit),
    };
    is_chain(unit, lengths.map_or(4, |byte| usize::from(byte & 3) + 1))
}

/// Whether no part of a unit is zeros alone that is as long as what disks lose at once.
fn is_written(unit: &[u8]) -> bool {
    const PAGE: usize = 4096;
    unit.iter().any(|byte| *byte != 0) && unit.chunks_exact(PAGE / 2).all(|part| part.iter().any(|byte| *byte != 0))
}

/// Whether an access unit is NAL units with their lengths, to the last byte.
fn is_chain(mut unit: &[u8], length_size: usize) -> bool {
    while let Some((length, rest)) = unit.split_at_checked(length_size) {
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        match rest.split_at_checked(length).filter(|_| length > 0) {
            Some((_, after)) => unit = after,
            None => return false,
        }
    }
    unit.is_empty()
}
