//! The tracks of a file, merged by decoding time. Bounded: the pipeline waits while the reader is behind.

use crest_core::codec::MediaEvent;
use crest_core::{Error, MediaTime, Result};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that the pipeline may be ahead.
const AHEAD: usize = 32 << 20;
/// Bytes that may be held while one track has nothing yet; then the others go on without it.
const HELD: usize = 256 << 20;
/// How long a source may stay silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long data may still follow after an error.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Tracks that are read: one video, one audio.
const TRACKS: usize = 2;
/// Media of one track after which a second one is no longer waited for.
const REVEAL_NANOS: i64 = 2_000_000_000;
/// The same, counted in packets of tracks that are left out.
const DISCARDED: u64 = 500;

/// What comes next.
pub(super) enum Step {
    Event(MediaEvent),
    End,
}

/// Where the pipeline's threads leave packets and the reader finds them.
pub(super) struct Merge {
    state: Mutex<State>,
    changed: Condvar,
    plain_times: AtomicBool,
}

#[derive(Default)]
struct State {
    tracks: Vec<Track>,
    /// No further track will be announced.
    complete: bool,
    /// The reader waits for a track that has nothing.
    hungry: bool,
    stopped: bool,
    error: Option<String>,
    notes: Vec<String>,
    bytes: usize,
    discarded: u64,
    /// Counts everything that arrives.
    arrivals: u64,
}

#[derive(Default)]
struct Track {
    events: VecDeque<(MediaTime, MediaEvent)>,
    ended: bool,
}

impl Merge {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), plain_times: AtomicBool::new(false) }
    }

    /// The container's packets carry its own timeline; segments are not to be applied to it.
    pub(super) fn use_plain_times(&self) {
        self.plain_times.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_plain_times(&self) -> bool {
        self.plain_times.load(Ordering::Relaxed)
    }

    /// Announces a track; its number is the order among equals.
    pub(super) fn add_track(&self) -> usize {
        let mut state = self.lock();
        state.tracks.push(Track::default());
        state.complete |= state.tracks.len() >= TRACKS;
        state.tracks.len() - 1
    }

    /// Whether no further track is waited for: there is one of each, or those known are well under way. Some
    /// containers reveal a track only by its first packet.
    pub(super) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    /// A track that is left out delivered something, or its `end`.
    pub(super) fn discard(&self, end: bool) {
        let mut state = self.lock();
        state.discarded += 1;
        if !state.complete && state.tracks.is_empty() && (end || state.discarded > DISCARDED) {
            state.complete = true;
            self.changed.notify_all();
        }
    }

    /// Adds a track's next events, each with its decoding time. Waits while too much is held. `false` once nobody
    /// reads any more.
    pub(super) fn put(&self, track: usize, events: Vec<(MediaTime, MediaEvent)>) -> bool {
        let mut state = self.lock();
        while !state.stopped && state.bytes > if state.hungry { HELD } else { AHEAD } {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += events.iter().map(|(_, event)| size(event)).sum::<usize>();
        state.arrivals += 1;
        if let Some(track) = state.tracks.get_mut(track) {
            track.events.extend(events);
            let (first, last) = (track.events.front(), track.events.back());
            if let (Some((first, _)), Some((last, _))) = (first, last) {
                state.complete |= (*last - *first).nanos() >= REVEAL_NANOS;
            }
        }
        self.changed.notify_all();
        !state.stopped
    }

    /// A track is at its end.
    pub(super) fn end(&self, track: usize) {
        self.change(|state| {
            state.arrivals += 1;
            if let Some(track) = state.tracks.get_mut(track) {
                track.ended = true;
            }
            state.complete |= state.tracks.iter().all(|track| track.ended);
        });
    }

    /// Something in the pipeline failed. The first reason is kept.
    pub(super) fn fail(&self, why: String) {
        self.change(|state| {
            state.arrivals += 1;
            state.error.get_or_insert(why);
        });
    }

    pub(super) fn note(&self, note: String) {
        self.change(|state| state.notes.push(note));
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.lock().notes.clone()
    }

    /// Nobody reads any more.
    pub(super) fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    /// What failed, or else `otherwise`.
    pub(super) fn failure(&self, otherwise: &str) -> Error {
        let mut state = self.lock();
        let why = state.error.take().unwrap_or_else(|| otherwise.to_owned());
        let notes = state.notes.join("; ");
        Error::user(if notes.is_empty() { why } else { format!("{why} ({notes})") })
    }

    /// Waits until the tracks are known; returns the earliest first presentation time.
    pub(super) fn begin(&self) -> Result<MediaTime> {
        self.wait(|state| state.complete && state.tracks.iter().all(Track::is_settled));
        let state = self.lock();
        let first = |track: &Track| track.events.iter().find_map(|(_, event)| presentation(event));
        let base = state.tracks.iter().filter_map(first).min();
        let silent = state.error.is_none() && !state.complete;
        drop(state);
        match base {
            Some(base) => Ok(base),
            None if silent => Err(Error::outside(format!("nothing arrived for {} seconds", SILENCE.as_secs()))),
            None => Err(self.failure("it holds no video (H.264, H.265, AV1, VP9, VP8) and no audio (AAC, Opus, MP3) that is read; convert it first")),
        }
    }

    /// The event with the smallest decoding time of all tracks.
    pub(super) fn next(&self) -> Step {
        self.wait(|state| state.tracks.iter().all(Track::is_settled));
        let mut state = self.lock();
        let heads = state.tracks.iter().enumerate().filter_map(|(i, t)| t.events.front().map(|(dts, _)| (*dts, i)));
        let Some((_, track)) = heads.min() else {
            if let Some(why) = state.error.take() {
                state.notes.push(format!("reading stopped early: {why}"));
            } else if !state.tracks.iter().all(|t| t.ended) {
                state.notes.push(format!("reading stopped early: nothing arrived for {} seconds", SILENCE.as_secs()));
            }
            return Step::End;
        };
        let event = state.tracks.get_mut(track).and_then(|t| t.events.pop_front());
        let Some((_, event)) = event else { return Step::End };
        state.bytes = state.bytes.saturating_sub(size(&event));
        self.changed.notify_all();
        Step::Event(event)
    }

    /// Waits until `ready`, or until waiting longer is of no use: too much is held, the source is silent, or it
    /// failed and nothing follows.
    fn wait(&self, ready: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        let mut since = (Instant::now(), state.arrivals);
        while !ready(&state) && state.bytes < HELD {
            state.hungry = true;
            self.changed.notify_all();
            let limit = if state.error.is_some() { AFTERMATH } else { SILENCE };
            if state.arrivals != since.1 {
                since = (Instant::now(), state.arrivals);
            }
            let left = limit.saturating_sub(since.0.elapsed());
            if left.is_zero() {
                break;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.hungry = false;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Track {
    /// Whether its next event is known, or that there is none.
    fn is_settled(&self) -> bool {
        self.ended || !self.events.is_empty()
    }
}

fn presentation(event: &MediaEvent) -> Option<MediaTime> {
    match event {
        MediaEvent::Video(packet) | MediaEvent::Audio(packet) => Some(packet.pts),
        _ => None,
    }
}

fn size(event: &MediaEvent) -> usize {
    match event {
        MediaEvent::Video(packet) | MediaEvent::Audio(packet) => packet.data.len() + 64,
        _ => 64,
    }
}
