//! Where what was pulled goes in: like a publisher that is admitted with its first packet and paced.

use crest_core::codec::MediaEvent;
use crest_core::space::Room;
use crest_core::stream::Stream;
use crest_core::{MediaTime, OrganizationId, StreamId, WallTime};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use super::config::PullConfig;
use super::pace::Pace;
use super::recorded::Recorded;
use super::{Trouble, now};
use crate::admission::Admission;
use crate::lifecycle::Ending;
use crate::publish::Publication;

/// How far from the present what a source says of the time can lie; beyond it, it is not believed to be live.
const PRESENT: i64 = 3_600_000;
/// How much media is held back at most until both tracks are known.
const TOLD: MediaTime = MediaTime::from_millis(1000);
const HELD_EVENTS: usize = 1024;
const HELD_BYTES: usize = 16 << 20;
/// A feed that was just closed takes a moment to let go of its stream.
const ADMISSIONS: u32 = 40;
const AGAIN: Duration = Duration::from_millis(250);

/// When something came last: a source may keep its connection busy without ever giving media.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns when nothing came for so long.
    pub(super) async fn silent_for(&self, limit: Duration) {
        loop {
            let end = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// The way in to a stream.
pub(super) struct Outlet<'a> {
    admission: &'a Arc<Admission>,
    stream: &'a Stream,
    config: &'a PullConfig,
    publication: Option<Publication>,
    /// What came before the feed began: a feed that comes back goes on where it stood only if its configurations
    /// are the same, so they have to be known first.
    waiting: Vec<MediaEvent>,
    /// Bytes of it.
    held: usize,
    first: Option<MediaTime>,
    refused: bool,
    anchor: Option<WallTime>,
    left_out: Recorded,
    pace: Pace,
    progress: Progress,
    recorded: bool,
    given: bool,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(admission: &'a Arc<Admission>, stream: &'a Stream, config: &'a PullConfig) -> Self {
        let pace = Pace::new(config.live_speed);
        Self {
            admission,
            stream,
            config,
            publication: None,
            waiting: Vec::new(),
            held: 0,
            first: None,
            refused: false,
            anchor: None,
            left_out: Recorded::default(),
            pace,
            progress: Progress::new(),
            recorded: false,
            given: false,
        }
    }

    /// The stream that is fed.
    pub(super) fn stream(&self) -> &StreamId {
        &self.stream.id
    }

    /// Whose stream it is.
    pub(super) fn organization(&self) -> &OrganizationId {
        &self.stream.organization_id
    }

    /// Which audio track is taken, counted from 0; `None` takes the first, or the one that the source prefers.
    pub(super) fn audio_track(&self) -> Option<u8> {
        self.stream.audio_track
    }

    /// What follows is a recording: it goes in as fast as it plays.
    pub(super) fn recorded(&mut self) {
        self.pace = Pace::new(self.config.recorded_speed);
        self.recorded = true;
    }

    /// Whether media of a recording went in.
    pub(super) fn gives_recording(&self) -> bool {
        self.recorded && self.has_given()
    }

    /// The next packet was recorded then. The first of all began the session then, if that can be so; a later one tells
    /// what was left out of a live broadcast before it.
    pub(super) fn anchor(&mut self, wall: WallTime) {
        self.left_out.begins(wall);
        let off = wall.0.saturating_sub(now().0);
        if self.first.is_none() && (-PRESENT..=0).contains(&off) {
            self.anchor = Some(wall);
        }
    }

    /// Tells when something came last.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether the disk has room for media.
    pub(super) fn has_room(&self) -> bool {
        self.admission.room() == Room::Ample
    }

    /// Whether any media went in.
    pub(super) fn has_given(&self) -> bool {
        self.given || self.first.is_some()
    }

    /// Hands over an event when it is its time.
    pub(super) async fn deliver(&mut self, event: MediaEvent) -> Result<(), Trouble> {
        self.progress.touch();
        let dts = match &event {
            MediaEvent::Video(packet) | MediaEvent::Audio(packet) => Some(packet.dts),
            MediaEvent::VideoConfig(_) | MediaEvent::AudioConfig(_) => None,
        };
        let picture = matches!(event, MediaEvent::Video(_));
        let left_out = dts.and_then(|dts| self.left_out.left_out(picture, dts)).filter(|_| !self.recorded);
        let Some(publication) = &self.publication else {
            if let MediaEvent::Video(packet) | MediaEvent::Audio(packet) = &event {
                self.held += packet.data.len();
            }
            self.waiting.push(event);
            let full = self.waiting.len() >= HELD_EVENTS || self.held >= HELD_BYTES;
            return match (self.first, dts) {
                (None, Some(dts)) => {
                    self.first = Some(dts);
                    Ok(())
                }
                (Some(first), dts)
                    if full || self.is_told() || dts.is_some_and(|dts| (dts - first).nanos().abs() > TOLD.nanos()) =>
                {
                    self.begin(first).await
                }
                _ => Ok(()),
            };
        };
        if let Some(dts) = dts {
            tokio::time::sleep_until(self.pace.due(dts, Instant::now())).await;
        }
        if let Some(after) = left_out {
            publication.left_out(after).await;
        }
        given(publication.deliver(event).await)
    }

    /// Says why nothing more comes at the moment.
    pub(super) async fn close(&mut self, reason: &str) {
        if let Some(publication) = self.settled().await {
            publication.close(reason).await;
        }
    }

    /// Ends the stream with what was given, and says whether that was done: one that was interrupted or never began is
    /// for others to end.
    pub(super) async fn end(&mut self, ending: &Ending) -> bool {
        match self.settled().await {
            Some(publication) => publication.end(ending.clone()).await.is_some_and(|ended| ended.is_ok()),
            None => false,
        }
    }

    /// The way in, after all that there was.
    async fn settled(&mut self) -> Option<Publication> {
        if let (None, Some(first), false) = (&self.publication, self.first, self.refused) {
            let _ = self.begin(first).await;
        }
        self.publication.take()
    }

    /// Whether both tracks are known; a source may have but one.
    fn is_told(&self) -> bool {
        self.waiting.iter().any(is_video_config) && self.waiting.iter().any(is_audio_config)
    }

    async fn begin(&mut self, first: MediaTime) -> Result<(), Trouble> {
        let mut tries = 0;
        let publication = loop {
            match self.admission.admit_pulled(self.stream).await {
                Ok(publication) => break publication,
                Err(_) if tries < ADMISSIONS => {
                    tries += 1;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(refusal) => {
                    self.refused = true;
                    return Err(Trouble::Passing(refusal.reason));
                }
            }
        };
        if let Some(wall) = self.anchor.take() {
            publication.anchor(wall).await;
        }
        self.pace.due(first, Instant::now());
        // The first configuration of each track comes before everything.
        for is in [is_video_config, is_audio_config] {
            if let Some(at) = self.waiting.iter().position(is) {
                self.waiting[..=at].rotate_right(1);
            }
        }
        for event in self.waiting.drain(..) {
            given(publication.deliver(event).await)?;
        }
        self.publication = Some(publication);
        self.given = true;
        Ok(())
    }
}

fn is_video_config(event: &MediaEvent) -> bool {
    matches!(event, MediaEvent::VideoConfig(_))
}

fn is_audio_config(event: &MediaEvent) -> bool {
    matches!(event, MediaEvent::AudioConfig(_))
}

fn given(taken: bool) -> Result<(), Trouble> {
    // Why stands with the stream: it was stopped, say, and then it is not tried again.
    taken.then_some(()).ok_or_else(|| Trouble::Passing("the feed was ended here".to_owned()))
}
