//! Analyzers and fusion in one thread: samples and chat in, decisions out.

use crest_analyzers::SessionAnalyzers;
use crest_core::chat::ChatMessage;
use crest_core::highlight::{Decision, Highlight};
use crest_core::sample::{AudioWindow, VideoBatch};
use crest_core::signal::{Signal, SignalBatch, SignalEntry};
use crest_core::{Bucket, MediaTime, OrganizationId, Session, StreamId, WallTime};
use crest_fusion::{DimensionSet, ScoredTick, StreamFusion};
use std::collections::{BTreeMap, VecDeque};

/// A file belongs to nobody; ids are derived from its content's timeline alone.
pub(super) const ORGANIZATION: &str = "org_file";

/// Chat about the last moments is taken until this long after the end of the recording.
const LATEST_CHAT: MediaTime = MediaTime::from_millis(15_000);

/// What came out.
pub(super) struct Results {
    /// Final highlights, by start.
    pub(super) highlights: Vec<Highlight>,
    /// Scored ticks.
    pub(super) scores: Vec<ScoredTick>,
    /// Signal values.
    pub(super) values: BTreeMap<(Bucket, Signal), f64>,
    /// Length of the input.
    pub(super) duration: MediaTime,
    /// The thresholds that decided.
    pub(super) set: DimensionSet,
}

/// The analyzers and the fusion of one input.
pub(super) struct Pipeline {
    analyzers: SessionAnalyzers,
    fusion: StreamFusion,
    set: DimensionSet,
    chat: VecDeque<ChatMessage>,
    finals: Vec<Highlight>,
    scores: Vec<ScoredTick>,
    values: BTreeMap<(Bucket, Signal), f64>,
    last_chat: MediaTime,
    media: bool,
}

impl Pipeline {
    /// `media`: whether pictures or sound will come; else chat is the clock.
    pub(super) fn new(set: DimensionSet, chat: Vec<ChatMessage>, media: bool) -> Self {
        let organization = OrganizationId::from_raw(ORGANIZATION);
        let mut pipeline = Self {
            analyzers: SessionAnalyzers::default(),
            fusion: StreamFusion::new(organization, StreamId::from_raw("str_file"), set.clone()),
            set,
            media,
            last_chat: chat.last().map_or(MediaTime::ZERO, |m| m.at),
            chat: chat.into(),
            finals: Vec::new(),
            scores: Vec::new(),
            values: BTreeMap::new(),
        };
        pipeline.apply(vec![SignalEntry::SessionStart { wall: WallTime(0), media }]);
        pipeline
    }

    /// Takes frames.
    pub(super) fn video(&mut self, batch: &VideoBatch) {
        self.chat_to(batch.complete_to);
        let entries = self.analyzers.video(batch);
        self.apply(entries);
    }

    /// Takes sound.
    pub(super) fn audio(&mut self, window: &AudioWindow) {
        self.chat_to(window.complete_to);
        let entries = self.analyzers.audio(window);
        self.apply(entries);
    }

    /// Ends the input and returns what came out.
    pub(super) fn finish(mut self, media_end: MediaTime) -> Results {
        // Chat that goes on after the recording is over is about nothing in it.
        let end = if self.media { media_end } else { self.last_chat };
        if self.media {
            self.chat.retain(|m| m.at < end + LATEST_CHAT);
        }
        // In steps of a minute, so that fusion sees time pass as it would live.
        while let Some(first) = self.chat.front() {
            let to = first.at + MediaTime::from_millis(60_000);
            self.chat_to(to);
        }
        self.apply(vec![SignalEntry::SessionEnd { at: end }]);
        self.finals.sort_by_key(|h| (h.start, h.id.clone()));
        Results { highlights: self.finals, scores: self.scores, values: self.values, duration: end, set: self.set }
    }

    /// Hands over the chat that was written before `to`.
    fn chat_to(&mut self, to: MediaTime) {
        let due = self.chat.iter().take_while(|m| m.at < to).count();
        // Bucket by bucket: each is complete before a later one is seen.
        let due: Vec<ChatMessage> = self.chat.drain(..due).collect();
        for messages in due.chunk_by(|a, b| a.at.bucket() == b.at.bucket()) {
            let entries = self.analyzers.chat(messages);
            self.apply(entries);
        }
    }

    fn apply(&mut self, entries: Vec<SignalEntry>) {
        for entry in &entries {
            if let SignalEntry::Value { bucket, signal, value } = entry {
                self.values.insert((*bucket, *signal), *value);
            }
        }
        let organization_id = OrganizationId::from_raw(ORGANIZATION);
        let outcome = self.fusion.apply(&SignalBatch { organization_id, session: Session::new(1), entries });
        self.scores.extend(outcome.scores);
        self.finals.extend(outcome.decisions.into_iter().filter_map(|d| match d {
            Decision::Finalized { highlight } => Some(highlight),
            _ => None,
        }));
    }
}
