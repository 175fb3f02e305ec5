//! Signals become highlights. [`StreamFusion`] is a function of one stream's signals log: same
//! entries, same decisions, whole or from any snapshot. It does no I/O, reads no clock and draws no
//! random numbers.
//!
//! Order of the way: [`window`] turns values into a score per tick, [`moments`] turns scores into
//! spans, [`decide`] turns spans into decisions with stable ids.

pub mod baseline;
pub mod decide;
pub mod dimensions;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod lag;
mod marks;
mod memory;
pub mod moments;
mod packed;
mod raw;
mod session;
pub mod window;

use crest_core::highlight::Decision;
use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::{MediaTime, OrganizationId, Session, StreamId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

pub use dimensions::DimensionSet;
use session::{Closed, SessionFusion};
use window::{Baselines, Window};

/// Entries kept for a session whose start is not in the log yet; later ones are too many to be early.
const MAX_EARLY: usize = 4096;

/// Sessions that are over and whose marks still count: while the bus is away a publisher may come back
/// several times, and what it sent may be told before what was marked.
const MAX_CLOSED: usize = 8;

/// Version of the snapshot encoding. Another version means: rebuild from the log.
pub const STATE_VERSION: u32 = 2;

/// A scored tick, as the final evaluation sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredTick {
    /// Its session.
    pub session: Session,
    /// The tick.
    pub bucket: crest_core::Bucket,
    /// 0..1.
    pub score: f64,
}

/// What applying entries brought about.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Decisions, in order.
    pub decisions: Vec<Decision>,
    /// Ticks whose final score became known.
    pub scores: Vec<ScoredTick>,
}

/// Fusion of one stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamFusion {
    organization_id: OrganizationId,
    stream_id: StreamId,
    set: DimensionSet,
    session: Option<SessionFusion>,
    /// The sessions before, the last of them last.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    closed: VecDeque<Closed>,
    /// The latest session that began; entries of earlier ones come too late.
    latest: Option<Session>,
    /// What was placed in a session before its start reached the log: chat and marks come another way
    /// than the media, and a crash may lie between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    early: Vec<(Session, SignalEntry)>,
    /// Carried from session to session: the stream's own past, while no session has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    past: Option<Baselines>,
}

impl StreamFusion {
    /// Fusion of a stream of which nothing is known yet.
    pub fn new(organization_id: OrganizationId, stream_id: StreamId, set: DimensionSet) -> Self {
        Self {
            organization_id,
            stream_id,
            set,
            session: None,
            closed: VecDeque::new(),
            latest: None,
            early: Vec::new(),
            past: None,
        }
    }

    /// The state as [`StreamFusion::restore`] takes it.
    pub fn snapshot(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Fusion as it was when the snapshot was taken.
    pub fn restore(state: &[u8]) -> Result<Self, serde_json::Error> {
        let mut fusion: Self = serde_json::from_slice(state)?;
        if let Some(session) = &mut fusion.session {
            session.restored(&fusion.set);
        }
        Ok(fusion)
    }

    /// Whether a session is open: the state is worth keeping.
    pub fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// The wall-clock start of a session, where it is the open one or one of the last before it.
    pub fn started(&self, session: Session) -> Option<crest_core::WallTime> {
        let open = self.session.as_ref().filter(|s| s.number() == session).map(SessionFusion::wall);
        open.or_else(|| self.closed.iter().find(|c| c.number() == session).map(Closed::wall))
    }

    /// Takes the next entries of the stream's log.
    pub fn apply(&mut self, batch: &SignalBatch) -> Outcome {
        let mut outcome = Outcome::default();
        for entry in &batch.entries {
            self.apply_entry(batch.session, entry, &mut outcome);
        }
        if let Some(session) = &mut self.session {
            session.advance(&self.set, &mut outcome);
        }
        outcome
    }

    fn apply_entry(&mut self, number: Session, entry: &SignalEntry, outcome: &mut Outcome) {
        if let SignalEntry::SessionStart { wall, media } = entry {
            if self.latest.is_none_or(|latest| number > latest) {
                self.close(None, outcome);
                self.latest = Some(number);
                let ids = (self.organization_id.clone(), self.stream_id.clone());
                self.session = Some(SessionFusion::new(
                    ids,
                    number,
                    *wall,
                    Window::new(self.past.take().unwrap_or_default(), *media),
                ));
                let (now, later) = std::mem::take(&mut self.early).into_iter().partition(|(n, _)| *n <= number);
                self.early = later;
                let now: Vec<(Session, SignalEntry)> = now;
                now.iter().for_each(|(n, entry)| self.apply_entry(*n, entry, outcome));
            }
            return;
        }
        if self.latest.is_none_or(|latest| number > latest) {
            let early = (number, *entry);
            if self.early.len() < MAX_EARLY && !self.early.contains(&early) {
                self.early.push(early);
            }
            return;
        }
        // An entry of another session than the open one is late: that session's decisions are made. A mark
        // was promised to count.
        let before = self.closed.iter_mut().find(|closed| closed.number() == number);
        if let (SignalEntry::Mark { at }, Some(closed)) = (entry, before) {
            return closed.mark(&self.set, *at, outcome);
        }
        let Some(session) = self.session.as_mut().filter(|s| s.number() == number) else { return };
        match *entry {
            SignalEntry::Value { bucket, signal, value } => session.value(bucket, signal, value),
            SignalEntry::Watermark { modality, to } => session.watermark(modality, to),
            SignalEntry::Mark { at } => session.mark(at),
            SignalEntry::SessionEnd { at } => self.close(Some(at), outcome),
            SignalEntry::SessionStart { .. } => {}
        }
    }

    /// Ends the open session at `at`, or where its entries end.
    fn close(&mut self, at: Option<MediaTime>, outcome: &mut Outcome) {
        if let Some(session) = self.session.take() {
            let (past, closed) = session.finish(&self.set, at, outcome);
            self.past = Some(past);
            if self.closed.len() >= MAX_CLOSED {
                self.closed.pop_front();
            }
            self.closed.push_back(closed);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
