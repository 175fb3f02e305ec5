//! A keyframe -> JPEG.

use crest_core::segment::Fragment;
use crest_core::{MediaTime, Result};
use std::io::Write;
use std::path::Path;

use crate::atomic;
use crate::decode::{Output, VideoDecoder};
use crate::mp4::track::{VIDEO_TIMESCALE, ticks};
use crate::source;

/// Widest thumbnail, in pixels.
const WIDTH: i32 = 1280;
/// Keyframes that are tried, the nearest first.
const TRIES: usize = 4;
/// Largest keyframe that is read.
const MAX_KEYFRAME: u64 = 64 << 20;

/// Writes the keyframe nearest to `at` (the earlier of equals) to `out` as a JPEG at most 1280 pixels wide, with
/// square pixels. `false`, and no file, where the fragments hold no keyframe.
///
/// # Errors
/// `NotFound` where nothing is stored; `Outside` where nothing can be read, none of the nearest keyframes can be
/// decoded, or `out` cannot be written.
pub fn thumbnail(root: &Path, fragments: &[Fragment], at: MediaTime, out: &Path) -> Result<bool> {
    let runs = source::runs(root, fragments)?;
    let at = ticks(at, VIDEO_TIMESCALE);
    let mut keyframes = Vec::new();
    for run in &runs {
        let Some(config) = &run.tracks.video else { continue };
        for piece in &run.pieces {
            let found = piece.index.video.iter().filter(|located| located.timing.keyframe);
            keyframes.extend(found.map(|located| (located.timing.pts.abs_diff(at), *located, piece, config)));
        }
    }
    keyframes.sort_by_key(|(distance, located, ..)| (*distance, located.timing.pts));
    let mut failed = None;
    for (_, located, piece, config) in keyframes.into_iter().take(TRIES) {
        let jpeg = piece
            .file
            .read(located.offset, u64::from(located.size), MAX_KEYFRAME)
            .and_then(|keyframe| VideoDecoder::new(config, Output::Jpeg { width: WIDTH })?.jpeg(&keyframe));
        match jpeg {
            Ok(jpeg) => {
                atomic::write(out, |file| file.write_all(&jpeg).map_err(|e| atomic::failed(out, &e)))?;
                return Ok(true);
            }
            Err(e) => {
                failed.get_or_insert(e);
            }
        }
    }
    failed.map_or(Ok(false), Err)
}
