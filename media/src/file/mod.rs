//! A file or URL -> `MediaEvent`s, as fast as it can be read.

mod access;
mod config;
mod merge;
mod pipeline;
mod track;
mod unsaid;

pub(crate) use access::is_random_access;
pub(crate) use track::{Converter, Kind};

use crest_core::codec::MediaEvent;
use crest_core::{Error, MediaTime, Result};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::demux::missing;
use merge::{Merge, Step};

/// A file whose end lies this far before its announced length was cut short.
const SHORT_NANOS: i64 = 1_500_000_000;

/// Reads a file that GStreamer can demultiplex (MP4, Matroska, MPEG-TS, FLV, ...): its first video track
/// (H.264, H.265, AV1, VP9 or VP8) and its first audio track (AAC, Opus or MP3), as they are encoded.
///
/// Events of both tracks come in order of decoding time, on a timeline that begins with the earliest first
/// presentation time. The same file gives the same events.
pub struct FileReader {
    pipeline: gst::Pipeline,
    merge: Arc<Merge>,
    duration: Option<MediaTime>,
    /// Presentation time that becomes zero.
    base: MediaTime,
    end: MediaTime,
    over: bool,
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader").field("duration", &self.duration).field("over", &self.over).finish_non_exhaustive()
    }
}

impl FileReader {
    /// Opens as [`Self::open_with`] does, and reads the first audio track.
    ///
    /// # Errors
    /// The same.
    pub fn open(input: &str) -> Result<Self> {
        Self::open_with(input, None)
    }

    /// Opens a path, or a `file://`, `http://` or `https://` address, and reads until its tracks are known. `audio` says which
    /// of the audio tracks that can be read is read, counted from 0; without a track of that number there is no sound.
    ///
    /// # Errors
    /// `NotFound` for a path that does not exist; `User` for what is no media or holds no track that can be read;
    /// `Outside` where the address cannot be reached.
    pub fn open_with(input: &str, audio: Option<u8>) -> Result<Self> {
        crate::init()?;
        let source = source(input)?;
        let merge = Arc::new(Merge::new());
        let shown = Arc::<Mutex<pipeline::Shown>>::default();
        let pipeline = pipeline::build(&source, &merge, audio.unwrap_or_default(), Arc::clone(&shown))?;
        // From here on, dropping stops the pipeline.
        let mut this =
            Self { pipeline, merge, duration: None, base: MediaTime::ZERO, end: MediaTime::ZERO, over: false };
        let remote = matches!(source, Source::Address(_));
        let context = |e: Error| {
            // An address that fails now may answer later; a file stays what it is.
            let e =
                if remote { Error::outside(format!("it cannot be fetched or is no media: {}", e.message)) } else { e };
            e.context(format!("cannot read {input}"))
        };
        if this.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(context(this.merge.failure("it cannot be opened")));
        }
        this.base = this.merge.begin().map_err(context)?;
        if let Some(track) = audio
            && let Some(count) = shown.lock().unwrap_or_else(PoisonError::into_inner).without_chosen()
        {
            this.merge.note(missing(track, count));
        }
        let duration = this.pipeline.query_duration::<gst::ClockTime>().filter(|d| !d.is_zero());
        this.duration = duration.and_then(|d| i64::try_from(d.nseconds()).ok()).map(MediaTime::from_nanos);
        Ok(this)
    }

    /// The length that the container announces; a fragmented file may not.
    pub fn duration(&self) -> Option<MediaTime> {
        self.duration
    }

    /// The next event; `None` at the end. Where reading fails in the middle, the events up to there come first and
    /// then `None`; [`Self::notes`] says why.
    pub fn next_event(&mut self) -> Result<Option<MediaEvent>> {
        if self.over {
            return Ok(None);
        }
        match self.merge.next() {
            Step::Event(event) => {
                let event = self.rebased(event);
                if let MediaEvent::Video(packet) | MediaEvent::Audio(packet) = &event {
                    self.end = self.end.max(packet.pts);
                }
                Ok(Some(event))
            }
            Step::End => {
                self.over = true;
                if let Some(announced) = self.duration.filter(|d| (*d - self.end).nanos() > SHORT_NANOS) {
                    let end = self.end;
                    self.merge.note(format!("the file ends after {end}, but says that it is {announced} long"));
                }
                Ok(None)
            }
        }
    }

    /// What was left out, and why: tracks that cannot be kept or analysed, and where reading stopped early.
    pub fn notes(&self) -> Vec<String> {
        self.merge.notes()
    }

    fn rebased(&self, event: MediaEvent) -> MediaEvent {
        let rebase = |mut packet: crest_core::codec::Packet| {
            packet.pts = packet.pts - self.base;
            packet.dts = packet.dts - self.base;
            packet
        };
        match event {
            MediaEvent::Video(packet) => MediaEvent::Video(rebase(packet)),
            MediaEvent::Audio(packet) => MediaEvent::Audio(rebase(packet)),
            config => config,
        }
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        // First wake the threads that wait for room: the pipeline cannot stop before they return.
        self.merge.stop();
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Where the bytes come from.
enum Source {
    Path(PathBuf),
    Address(String),
}

fn source(input: &str) -> Result<Source> {
    if input.starts_with("http://") || input.starts_with("https://") {
        return Ok(Source::Address(input.to_owned()));
    }
    let path = if input.starts_with("file://") {
        let (path, _) = gst::glib::filename_from_uri(input)
            .map_err(|e| Error::user(format!("{input} is not a file address: {e}")))?;
        path
    } else if let Some((scheme, _)) = input.split_once("://").filter(|_| !Path::new(input).exists()) {
        return Err(Error::user(format!(
            "{scheme}:// is not read as a file; give a path, file://, http:// or https://"
        )));
    } else {
        PathBuf::from(input)
    };
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => Ok(Source::Path(path)),
        Ok(_) => Err(Error::user(format!("{} is not a file", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::not_found(format!("{} does not exist", path.display())))
        }
        Err(e) => Err(Error::outside(format!("cannot open {}: {e}", path.display()))),
    }
}
