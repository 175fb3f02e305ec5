//! Containers taken apart as their bytes arrive: no pipelines, no threads, no clock.

mod adts;
mod fragments;
mod fragments_header;
mod notes;
mod track;
mod ts;
mod units;

pub(crate) use adts::Adts;
pub(crate) use fragments::Fragments;
pub(crate) use notes::missing;
pub(crate) use ts::TransportStream;

use bytes::Bytes;
use crest_core::Result;
use crest_core::codec::MediaEvent;

use notes::Notes;
use units::Units;

/// How the bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// An MPEG transport stream (ITU-T H.222.0): packets of 188 bytes.
    MpegTs,
    /// Fragmented MP4 (ISO/IEC 14496-12): a header, then fragments; a new header may come at any time.
    FragmentedMp4,
    /// AAC frames with ADTS headers, and ID3 tags between them that say times, as HLS has it (RFC 8216, 3.4).
    Adts,
}

/// Takes a container apart as its bytes arrive: its first H.264 or H.265 track and its first AAC track, or the one that
/// is chosen.
///
/// What it holds is bounded, whatever comes in: an access unit of 16 MiB, a fragment of 64 MiB.
pub struct Demuxer {
    reader: Reader,
    notes: Notes,
}

enum Reader {
    MpegTs(Box<TransportStream>, Units),
    FragmentedMp4(Fragments),
    Adts(Adts, Units),
}

impl std::fmt::Debug for Demuxer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Demuxer").finish_non_exhaustive()
    }
}

impl Demuxer {
    /// A demultiplexer at the beginning of its stream.
    ///
    /// # Errors
    /// `Outside` where GStreamer or an element is missing.
    pub fn new(container: Container) -> Result<Self> {
        crate::init()?;
        let reader = match container {
            Container::MpegTs => Reader::MpegTs(Box::default(), Units::new()),
            Container::FragmentedMp4 => Reader::FragmentedMp4(Fragments::default()),
            Container::Adts => Reader::Adts(Adts::default(), Units::new()),
        };
        Ok(Self { reader, notes: Notes::default() })
    }

    /// Takes AAC track number `track`, counted from 0 in the order of the container's table, of those that can be
    /// read; with none of that number there is no sound, and a note says so. `None` takes the first. Called before
    /// the first bytes; ADTS has one track.
    pub fn choose_audio(&mut self, track: Option<u8>) {
        match &mut self.reader {
            Reader::MpegTs(stream, _) => stream.choose_audio(track),
            Reader::FragmentedMp4(fragments) => fragments.choose_audio(track),
            Reader::Adts(..) => {}
        }
    }

    /// Takes the next bytes, of any length, and returns what is complete by them: sound and picture in about the
    /// order of the bytes, a picture at most two behind.
    ///
    /// Times are the container's own, of which only differences count; sound and picture share one clock. Those of
    /// MPEG-TS are continued beyond 33 bits, so that a wrap goes on and does not jump. What is damaged is left out
    /// and noted.
    ///
    /// # Errors
    /// What cannot go on: a parser that does not start. Begin with a new demultiplexer then.
    pub fn push(&mut self, data: Bytes) -> Result<Vec<MediaEvent>> {
        let mut events = Vec::new();
        match &mut self.reader {
            Reader::MpegTs(stream, units) => {
                for unit in stream.push(&data, &mut self.notes) {
                    units.push(unit, &mut events, &mut self.notes)?;
                }
            }
            Reader::FragmentedMp4(fragments) => fragments.push(&data, &mut events, &mut self.notes)?,
            Reader::Adts(adts, units) => {
                for unit in adts.push(&data, &mut self.notes) {
                    units.push(unit, &mut events, &mut self.notes)?;
                }
            }
        }
        Ok(events)
    }

    /// The stream ended or is discontinuous: what is held back comes out. The next push starts anew.
    ///
    /// # Errors
    /// As for [`Self::push`].
    pub fn finish(&mut self) -> Result<Vec<MediaEvent>> {
        let mut events = Vec::new();
        match &mut self.reader {
            Reader::MpegTs(stream, units) => {
                for unit in stream.finish() {
                    units.push(unit, &mut events, &mut self.notes)?;
                }
                units.finish(&mut events);
            }
            Reader::FragmentedMp4(fragments) => fragments.finish(),
            Reader::Adts(adts, units) => {
                adts.finish();
                units.finish(&mut events);
            }
        }
        Ok(events)
    }

    /// What could not be used and why, each told once.
    pub fn notes(&mut self) -> Vec<String> {
        self.notes.take()
    }
}
