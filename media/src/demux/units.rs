//! Pieces of elementary streams on their way through parsers: the tracks of a container without descriptions.

use crest_core::Result;
use crest_core::codec::MediaEvent;

use super::notes::Notes;
use super::track::{Track, Unit};

/// The video track and the audio track, each with the parser of its codec.
pub(super) struct Units {
    tracks: Vec<Track>,
}

impl Units {
    pub(super) fn new() -> Self {
        Self { tracks: Vec::new() }
    }

    /// Takes a piece; a track whose codec changed begins anew.
    pub(super) fn push(&mut self, unit: Unit, events: &mut Vec<MediaEvent>, notes: &mut Notes) -> Result<()> {
        let media = unit.kind.media();
        if let Some(at) = self.tracks.iter().position(|t| t.kind().media() == media && t.kind() != unit.kind) {
            self.tracks.remove(at).finish(events);
        }
        let at = match self.tracks.iter().position(|t| t.kind() == unit.kind) {
            Some(at) => at,
            None => {
                self.tracks.push(Track::new(unit.kind)?);
                self.tracks.len() - 1
            }
        };
        if let Err(error) = self.tracks[at].push(unit, events) {
            // A parser that has failed stays so: the next piece gets a new one.
            let track = self.tracks.remove(at);
            notes.add(format!("the {media} cannot be parsed at times: {}", error.message));
            track.finish(events);
        } else if self.tracks[at].is_overlong() {
            self.tracks.remove(at);
            notes.add(format!("an access unit of the {media} does not end; it is left out"));
        }
        Ok(())
    }

    /// What the parsers hold back.
    pub(super) fn finish(&mut self, events: &mut Vec<MediaEvent>) {
        for track in self.tracks.drain(..) {
            track.finish(events);
        }
    }
}
