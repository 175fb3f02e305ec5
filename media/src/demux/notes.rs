//! What could not be used, each told once.

use std::collections::HashSet;

/// Different notes that are kept; a stream that gives rise to more has been told enough.
const MAX_NOTES: usize = 64;

/// Notes that were made, and those that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Notes {
    told: HashSet<String>,
    new: Vec<String>,
}

impl Notes {
    /// Makes a note, unless it was made before.
    pub(super) fn add(&mut self, note: impl Into<String>) {
        let note = note.into();
        if self.told.len() < MAX_NOTES && self.told.insert(note.clone()) {
            self.new.push(note);
        }
    }

    /// The notes since the last call.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.new)
    }
}

/// Of an audio track that was chosen among `count` and is not there.
pub(crate) fn missing(track: u8, count: usize) -> String {
    format!("there is no audio track {track}, counted from 0, but {count} that can be read: no sound is taken")
}
