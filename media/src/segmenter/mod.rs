//! Packets -> segment files, one fragment per group of pictures. The media is copied, never encoded again.

mod clock;
mod output;

use crest_core::codec::{AudioConfig, MediaEvent, Packet, VideoConfig};
use crest_core::segment::Fragment;
use crest_core::units::Span;
use crest_core::{MediaTime, OrganizationId, Result, Session, StreamId, object};
use serde::Deserialize;
use std::path::{Path, PathBuf};

use crate::bitstream::sound;
use crate::mp4::entry;
use crate::mp4::fragment::Sample;
use crate::mp4::track::{AUDIO, Tracks, VIDEO, audio_timescale};
use clock::{Clock, Pending};
use output::Output;

/// How long the first packets wait for the other track's configuration, in media time.
const WAIT_NANOS: i64 = 1_000_000_000;

/// How segments are cut.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmenterConfig {
    /// A fragment that finds no keyframe is closed after so much media.
    pub fragment: Span,
    /// A fragment is closed before it grows beyond so many bytes.
    pub fragment_bytes: u64,
    /// A new file begins at the first keyframe after so much media; without keyframes, after twice as much.
    pub segment: Span,
}

impl Default for SegmenterConfig {
    fn default() -> Self {
        Self { fragment: Span::secs(4), fragment_bytes: 8 << 20, segment: Span::secs(60) }
    }
}

/// Writes one session of one stream into segment files.
///
/// A fragment closes at the next keyframe, or when it is too long or too large. A changed or added
/// configuration begins a new file with a header of its own. A fragment's `start` and `end` span all that lies in
/// it: where a feed sends sound after the picture it belongs to, neighbours overlap by that much. Files that exist already (a restart within the
/// session) are never written over: the next free number is taken.
#[derive(Debug)]
pub struct Segmenter {
    config: SegmenterConfig,
    output: Output,
    tracks: Tracks,
    video: Clock,
    audio: Clock,
    open: Open,
    /// No file has begun yet: the other track may still be announced.
    waiting: bool,
    /// Fragments close but are not written.
    withheld: bool,
    /// Fragments that closed in a call that failed for another reason: the next one tells of them.
    untold: Vec<Fragment>,
}

/// The fragment that is being filled.
#[derive(Debug, Default)]
struct Open {
    video: Vec<Pending>,
    audio: Vec<Pending>,
    bytes: u64,
}

impl Open {
    fn first(&self) -> Option<MediaTime> {
        [self.video.first(), self.audio.first()].into_iter().flatten().map(|p| p.at).min()
    }
    fn is_empty(&self) -> bool {
        self.video.is_empty() && self.audio.is_empty()
    }
}

impl Segmenter {
    /// A segmenter for one session. Nothing is written before the first fragment closes.
    pub fn new(
        root: &Path,
        organization: OrganizationId,
        stream: StreamId,
        session: Session,
        config: SegmenterConfig,
    ) -> Self {
        let root: PathBuf = root.to_owned();
        let folder = object::session_folder(&organization, &stream, session);
        tracing::debug!(stream_id = %stream, session = session.number(), folder, "segments go here");
        Self {
            config,
            output: Output::new(root, organization, stream, session),
            tracks: Tracks::default(),
            video: Clock::video(),
            audio: Clock::audio(48_000),
            open: Open::default(),
            waiting: true,
            withheld: false,
            untold: Vec::new(),
        }
    }

    /// While `withheld`, fragments close as ever but are not written, only counted: there is no room for
    /// them. The first one afterwards begins a new file.
    pub fn withhold(&mut self, withheld: bool) {
        self.withheld = withheld;
    }

    /// The file that is being written, by its key; every other one is closed for good.
    pub fn open_file(&self) -> Option<&str> {
        self.output.open_file()
    }

    /// Takes the next event; returns the fragments that closed by it, already written and flushed to the
    /// operating system.
    ///
    /// # Errors
    /// When the file cannot be written (retryable: what could not be written is lost, the next fragment begins a
    /// new file), or when a decoder configuration cannot be read: what follows it is dropped until one can be. What
    /// closed all the same is returned by the next call.
    pub fn push(&mut self, event: &MediaEvent) -> Result<Vec<Fragment>> {
        let mut closed = std::mem::take(&mut self.untold);
        let taken = self.take(event, &mut closed);
        self.tell(taken, closed)
    }

    fn tell(&mut self, result: Result<()>, closed: Vec<Fragment>) -> Result<Vec<Fragment>> {
        match result {
            Ok(()) => Ok(closed),
            Err(error) => {
                self.untold = closed;
                Err(error)
            }
        }
    }

    fn take(&mut self, event: &MediaEvent, closed: &mut Vec<Fragment>) -> Result<()> {
        match event {
            MediaEvent::VideoConfig(config) => self.configure_video(config, closed),
            MediaEvent::AudioConfig(config) => self.configure_audio(config, closed),
            MediaEvent::Video(packet) if self.tracks.video.is_some() => self.take_video(packet, closed),
            MediaEvent::Audio(packet) if self.tracks.audio.is_some() => self.take_audio(packet, closed),
            MediaEvent::Video(_) | MediaEvent::Audio(_) => {
                metrics::counter!("crest_segment_packets_dropped_total", "cause" => "no_configuration").increment(1);
                Ok(())
            }
        }
    }

    fn configure_video(&mut self, config: &VideoConfig, closed: &mut Vec<Fragment>) -> Result<()> {
        let mut config = entry::announced_size(config.clone());
        // Announced again without what its keyframes have said since.
        let known = self.tracks.video.as_ref().filter(|k| k.codec == config.codec && k.record == config.record);
        if let Some(known) = known.filter(|_| config.width == 0 || config.height == 0) {
            (config.width, config.height) = (known.width, known.height);
        }
        let usable = entry::video(&config).map(drop);
        let config = usable.is_ok().then_some(config);
        let mut written = Ok(());
        if self.tracks.video != config {
            // The old configuration heads what is still open, and nothing that comes after it.
            written = self.begin_file(self.tracks.video.is_some(), closed);
            self.tracks.video = config;
        }
        usable.and(written)
    }

    fn configure_audio(&mut self, config: &AudioConfig, closed: &mut Vec<Fragment>) -> Result<()> {
        let usable = entry::audio(config).map(drop);
        let config = usable.is_ok().then(|| config.clone());
        let mut written = Ok(());
        if self.tracks.audio != config {
            written = self.begin_file(self.tracks.audio.is_some(), closed);
            if let Some(config) = &config {
                self.audio = Clock::audio(audio_timescale(config));
            }
            self.tracks.audio = config;
        }
        usable.and(written)
    }

    /// Closes the open fragment and file.
    pub fn finish(&mut self) -> Result<Vec<Fragment>> {
        let mut closed = std::mem::take(&mut self.untold);
        let written = self.close(None, &mut closed);
        self.output.end_file();
        self.tell(written, closed)
    }

    /// What follows needs another header: closes what is open, and the file with it. While the first packets
    /// wait for just such a configuration, there is nothing to close.
    fn begin_file(&mut self, replaces: bool, closed: &mut Vec<Fragment>) -> Result<()> {
        if self.waiting && !replaces {
            return Ok(());
        }
        let result = self.close(None, closed);
        self.output.end_file();
        result
    }

    /// Takes note of the size that a keyframe says, where that is not what the header says or will say.
    fn measure(&mut self, keyframe: &Packet, closed: &mut Vec<Fragment>) -> Result<()> {
        let Some(config) = &self.tracks.video else { return Ok(()) };
        let size = entry::size_in(config.codec, &keyframe.data);
        let Some((width, height)) = size.filter(|size| *size != (config.width, config.height)) else { return Ok(()) };
        // Sound may have come before: it belongs into the same file, as long as no header was written.
        let replaces = self.output.open_file().is_some() || (config.width != 0 && config.height != 0);
        let config = VideoConfig { width, height, ..config.clone() };
        let written = if replaces { self.begin_file(true, closed) } else { Ok(()) };
        self.tracks.video = Some(config);
        written
    }

    fn take_video(&mut self, packet: &Packet, closed: &mut Vec<Fragment>) -> Result<()> {
        let mut written = if packet.keyframe { self.measure(packet, closed) } else { Ok(()) };
        let pending = self.video.take(packet, None);
        let picture_ends = packet.keyframe && !self.open.video.is_empty();
        if self.may_close() && (picture_ends || self.is_full(packet, self.config.fragment)) {
            written = written.and(self.close(Some(&pending), closed));
            self.output.rotate(packet.pts, self.config.segment, packet.keyframe);
        }
        self.open.bytes += packet.data.len() as u64;
        self.open.video.push(pending);
        written
    }

    fn take_audio(&mut self, packet: &Packet, closed: &mut Vec<Fragment>) -> Result<()> {
        // Beside a picture that arrives, the picture decides; one that has stopped must not hold the sound.
        let mut limit = self.config.fragment;
        if self.tracks.video.is_some() {
            limit = Span(limit.0.saturating_mul(2));
        }
        let length = self.tracks.audio.as_ref().map(|c| sound::frame_ticks(c, &packet.data, audio_timescale(c)));
        let pending = self.audio.take(packet, length);
        let mut written = Ok(());
        if self.may_close() && self.is_full(packet, limit) {
            written = self.close(None, closed);
            self.output.rotate(packet.pts, self.config.segment, self.tracks.video.is_none());
        }
        self.open.bytes += packet.data.len() as u64;
        self.open.audio.push(pending);
        written
    }

    /// Whether the file has begun, or may begin now.
    fn may_close(&mut self) -> bool {
        if self.waiting {
            let both = self.tracks.video.is_some() && self.tracks.audio.is_some();
            let last = [self.open.video.last(), self.open.audio.last()].into_iter().flatten().map(|p| p.at).max();
            let waited = last.unwrap_or_default() - self.open.first().unwrap_or_default();
            self.waiting = !both && waited.nanos() < WAIT_NANOS && self.open.bytes < self.config.fragment_bytes;
        }
        !self.waiting
    }

    fn is_full(&self, next: &Packet, limit: Span) -> bool {
        let Some(first) = self.open.first() else { return false };
        let limit = i64::try_from(limit.0.as_nanos()).unwrap_or(i64::MAX);
        let size = self.open.bytes + next.data.len() as u64;
        next.dts.nanos().saturating_sub(first.nanos()) >= limit || size > self.config.fragment_bytes
    }

    /// Writes the open fragment. `next` is the video packet that follows it; sound that belongs beside that one
    /// stays for the next fragment.
    fn close(&mut self, next: Option<&Pending>, closed: &mut Vec<Fragment>) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.waiting = false;
        let mut open = std::mem::take(&mut self.open);
        if let Some(next) = next {
            // Split once: sound whose times run backwards keeps its order all the same.
            let now = open.audio.iter().position(|p| p.at >= next.at).unwrap_or(open.audio.len());
            self.open.audio = open.audio.split_off(now);
            self.open.bytes = self.open.audio.iter().map(|p| p.data.len() as u64).sum();
        }
        let video: Vec<Sample> = self.video.samples(&open.video, next);
        let audio: Vec<Sample> = self.audio.samples(&open.audio, self.open.audio.first());
        let ends = self.video.ends(&open.video, &video).chain(self.audio.ends(&open.audio, &audio));
        let end = ends.max().unwrap_or_default();
        let start = open.video.iter().chain(&open.audio).map(|p| p.at).min().unwrap_or_default();
        let keyframe = open.video.first().is_none_or(|p| p.keyframe);
        if open.video.is_empty() && open.audio.is_empty() {
            return Ok(());
        }
        if self.withheld {
            metrics::counter!("crest_fragments_lost_total", "cause" => "disk_reserve").increment(1);
            self.output.end_file();
            return Ok(());
        }
        closed.push(self.output.write(&self.tracks, &[(VIDEO, video), (AUDIO, audio)], (start, end), keyframe)?);
        Ok(())
    }
}
