//! Stored fragments, opened: runs of one configuration that can be played as one.

use crest_core::segment::Fragment;
use crest_core::{Error, MediaTime, Result};
use std::path::Path;
use std::sync::Arc;

use crate::mp4::read::{Index, SegmentFile};
use crate::mp4::track::Tracks;

/// A fragment whose index was read.
#[derive(Debug)]
pub(crate) struct Piece {
    pub file: Arc<SegmentFile>,
    pub index: Index,
    pub start: MediaTime,
    pub end: MediaTime,
}

/// Fragments that follow each other and share one configuration.
#[derive(Debug)]
pub(crate) struct Run {
    pub tracks: Tracks,
    pub pieces: Vec<Piece>,
}

impl Run {
    /// How much of `[from, to)` its fragments cover, in nanoseconds.
    pub(crate) fn covers(&self, from: MediaTime, to: MediaTime) -> i64 {
        self.pieces.iter().map(|p| (p.end.min(to) - p.start.max(from)).nanos().max(0)).sum()
    }
}

/// Opens fragments in the order of their times. One that cannot be read ends a run and is left out; where none
/// can be read, the first reason is the error.
pub(crate) fn runs(root: &Path, fragments: &[Fragment]) -> Result<Vec<Run>> {
    let mut ordered: Vec<&Fragment> = fragments.iter().collect();
    ordered.sort_by(|a, b| (a.start, &a.object, a.offset).cmp(&(b.start, &b.object, b.offset)));
    ordered.dedup();
    let mut runs: Vec<Run> = Vec::new();
    let mut open: Option<(&Fragment, Arc<SegmentFile>)> = None;
    let mut first_error = None;
    let mut broken = false;
    for fragment in ordered {
        let file = match open.as_ref().filter(|(f, _)| f.object == fragment.object) {
            Some((_, file)) => Ok(Arc::clone(file)),
            None => SegmentFile::open(root, fragment).map(Arc::new),
        };
        let read = file.and_then(|file| file.index(fragment).map(|index| (file, index)));
        let (file, index) = match read {
            Ok(read) => read,
            Err(e) => {
                tracing::warn!(stream_id = %fragment.stream_id, session = fragment.session.number(),
                    offset = fragment.offset, error = %e, "a stored fragment is left out");
                first_error.get_or_insert(e);
                broken = true;
                continue;
            }
        };
        open = Some((fragment, Arc::clone(&file)));
        let tracks = file.tracks.clone();
        let piece = Piece { file, index, start: fragment.start, end: fragment.end };
        match runs.last_mut().filter(|run| !broken && run.tracks == tracks) {
            Some(run) => run.pieces.push(piece),
            None => runs.push(Run { tracks, pieces: vec![piece] }),
        }
        broken = false;
    }
    match first_error {
        Some(e) if runs.is_empty() => Err(e),
        None if runs.is_empty() => Err(Error::not_found("no stored media for this span; retention removes old media")),
        _ => Ok(runs),
    }
}
