//! Fragments -> a playable, seekable MP4, without encoding anything again.

mod select;

use crest_core::segment::Fragment;
use crest_core::{Error, MediaTime, Result};
use std::io::Write;
use std::path::Path;

use crate::atomic;
use crate::mp4::progressive::{Chunk, Movie, header};
use crate::mp4::track::{AUDIO, VIDEO};
use crate::source::{self, Run};
pub use crate::thumbnail::thumbnail;
use select::{Selected, Selection};

/// Most bytes that are read and written at a time.
const BLOCK: u64 = 4 << 20;

/// What was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Session time of the first frame.
    pub start: MediaTime,
    /// Session time at which the last frame ends.
    pub end: MediaTime,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Copies `[from, to)` out of stored fragments into one MP4 at `out`, `moov` before `mdat`.
///
/// It starts at the last keyframe at or before `from` (or at the first one there is) and ends with the frame that
/// covers `to` and those that are decoded with it, a few at most. Sound is cut to the same span and kept in step
/// by edit lists. Where the configuration changes within the span, or a fragment cannot be read, the stretch that
/// covers most of it is taken (the earlier of equals). The file appears whole or not at all, durably, and equal
/// fragments give equal bytes.
///
/// # Errors
/// `NotFound` where nothing is stored for the span; `Outside` where no fragment can be read or `out` not written.
pub fn cut(root: &Path, fragments: &[Fragment], from: MediaTime, to: MediaTime, out: &Path) -> Result<Cut> {
    if from >= to {
        return Err(Error::user(format!("a clip must end after it starts, not from {from} to {to}")));
    }
    let runs = source::runs(root, fragments)?;
    let mut best: Option<(i64, &Run)> = None;
    for run in &runs {
        let covers = run.covers(from, to);
        if best.is_none_or(|(most, _)| covers > most) {
            best = Some((covers, run));
        }
    }
    let nothing = || Error::not_found(format!("no stored media from {from} to {to}; retention removes old media"));
    let (_, run) = best.filter(|(covers, _)| *covers > 0).ok_or_else(nothing)?;
    let selection = select::select(run, from, to).ok_or_else(nothing)?;
    let (movie, ranges) = plan(run, &selection);
    // What a segment says by itself may not fit beside what another says: times that lie days apart.
    let damaged = |e: Error| Error { retryable: false, ..Error::outside(format!("stored media is damaged: {e}")) };
    let head = header(&movie).map_err(damaged)?;
    let bytes = atomic::write(out, |file| {
        file.write_all(&head).map_err(|e| atomic::failed(out, &e))?;
        for range in &ranges {
            copy(run, range, file, out)?;
        }
        Ok(())
    })?;
    Ok(Cut { start: selection.start, end: selection.end, bytes })
}

/// Bytes of a piece that are copied as they lie.
#[derive(Debug, Clone, Copy)]
struct Range {
    piece: usize,
    offset: u64,
    bytes: u64,
}

/// Lays the selection out: per fragment the picture, then the sound, as they lie in the segment.
fn plan(run: &Run, selection: &Selection) -> (Movie, Vec<Range>) {
    let mut movie =
        Movie { tracks: run.tracks.clone(), start: selection.start, end: selection.end, ..Default::default() };
    let mut ranges: Vec<Range> = Vec::new();
    for piece in 0..run.pieces.len() {
        for (track, selected) in [(VIDEO, &selection.video), (AUDIO, &selection.audio)] {
            let mut joins = false;
            for Selected { located, .. } in selected.iter().filter(|s| s.piece == piece) {
                let size = u64::from(located.size);
                match (ranges.last_mut(), movie.chunks.last_mut()) {
                    (Some(range), Some(chunk)) if joins && range.offset + range.bytes == located.offset => {
                        range.bytes += size;
                        chunk.bytes += size;
                        chunk.samples += 1;
                    }
                    _ => {
                        ranges.push(Range { piece, offset: located.offset, bytes: size });
                        movie.chunks.push(Chunk { track, samples: 1, bytes: size });
                    }
                }
                joins = true;
                let samples = if track == VIDEO { &mut movie.video } else { &mut movie.audio };
                samples.push((located.timing, located.size));
            }
        }
    }
    if movie.video.is_empty() {
        movie.tracks.video = None;
    }
    if movie.audio.is_empty() {
        movie.tracks.audio = None;
    }
    (movie, ranges)
}

fn copy(run: &Run, range: &Range, file: &mut impl Write, out: &Path) -> Result<()> {
    let Some(piece) = run.pieces.get(range.piece) else { return Ok(()) };
    let mut done = 0;
    while done < range.bytes {
        let bytes = piece.file.read(range.offset + done, (range.bytes - done).min(BLOCK), BLOCK)?;
        file.write_all(&bytes).map_err(|e| atomic::failed(out, &e))?;
        done += bytes.len() as u64;
    }
    Ok(())
}
