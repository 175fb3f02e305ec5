//! Fusion of one session: ties window, trackers and decider together.

use crest_core::highlight::Decision;
use crest_core::signal::{Modality, Signal};
use crest_core::{Bucket, MediaTime, OrganizationId, Session, StreamId, WallTime};
use serde::{Deserialize, Serialize};

use crate::decide::Decider;
use crate::dimensions::{DimensionSet, Evaluation};
use crate::moments::{Span, Step, Tracker};
use crate::window::{Baselines, Window};
use crate::{Outcome, ScoredTick};

/// Marks that wait for their instant to be reached, one per bucket: an hour of a feed that lags that
/// far behind the clock.
const MAX_MARKS: usize = 7200;

/// What is left of a session that is over: marks come another way than the media and may arrive after
/// its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Closed {
    number: Session,
    wall: WallTime,
    end: Bucket,
    decider: Decider,
}

impl Closed {
    pub(crate) fn number(&self) -> Session {
        self.number
    }

    pub(crate) fn wall(&self) -> WallTime {
        self.wall
    }

    pub(crate) fn mark(&mut self, set: &DimensionSet, at: MediaTime, outcome: &mut Outcome) {
        if !self.decider.knows(at) {
            self.decider.mark(set, at.min(self.end.end()), &mut outcome.decisions);
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SessionFusion {
    number: Session,
    wall: WallTime,
    window: Window,
    fast: Tracker,
    full: Tracker,
    decider: Decider,
    /// The moment that is open needs no telling: it comes too soon after the last one, or it was made
    /// final when its media ended and only the audience still talks about it.
    told: bool,
    /// The evaluation at the peak of the moment that is open.
    peak: Evaluation,
    marks: Vec<MediaTime>,
}

impl SessionFusion {
    pub(crate) fn new(ids: (OrganizationId, StreamId), number: Session, wall: WallTime, window: Window) -> Self {
        Self {
            number,
            wall,
            window,
            fast: Tracker::default(),
            full: Tracker::default(),
            decider: Decider::new(ids.0, ids.1, number),
            told: false,
            peak: Evaluation::default(),
            marks: Vec::new(),
        }
    }

    pub(crate) fn number(&self) -> Session {
        self.number
    }

    pub(crate) fn wall(&self) -> WallTime {
        self.wall
    }

    /// After a restart: brings back what follows from the state.
    pub(crate) fn restored(&mut self, set: &DimensionSet) {
        self.window.restored(set);
    }

    pub(crate) fn value(&mut self, bucket: Bucket, signal: Signal, value: f64) {
        self.window.value(bucket, signal, value);
    }

    pub(crate) fn watermark(&mut self, modality: Modality, to: MediaTime) {
        self.window.watermark(modality, to);
    }

    pub(crate) fn mark(&mut self, at: MediaTime) {
        let marked = self.decider.knows(at) || self.marks.iter().any(|known| known.bucket() == at.bucket());
        if !marked && self.marks.len() < MAX_MARKS {
            self.marks.push(at);
        }
    }

    /// Evaluates every tick that the log has made known.
    pub(crate) fn advance(&mut self, set: &DimensionSet, outcome: &mut Outcome) {
        self.evaluate(set, None, outcome);
    }

    /// The session ended at `at`, or where its entries end: evaluates what is left, closes what is
    /// open, and returns the past. Chat that was placed after the end is not decided; a mark is: it was
    /// accepted, and people press the button late.
    pub(crate) fn finish(
        mut self,
        set: &DimensionSet,
        at: Option<MediaTime>,
        outcome: &mut Outcome,
    ) -> (Baselines, Closed) {
        let end = at.map_or_else(|| self.window.newest(), MediaTime::bucket);
        self.evaluate(set, Some(end), outcome);
        let step = self.full.close();
        self.full_step(set, step, outcome);
        self.decider.close(&mut outcome.decisions);
        for at in std::mem::take(&mut self.marks) {
            self.decider.mark(set, at.min(end.end()), &mut outcome.decisions);
        }
        let closed = Closed { number: self.number, wall: self.wall, end, decider: self.decider };
        (self.window.into_baselines(), closed)
    }

    fn evaluate(&mut self, set: &DimensionSet, end: Option<Bucket>, outcome: &mut Outcome) {
        loop {
            let fast = self.window.next_fast(set, end);
            if let Some((tick, score)) = fast {
                self.fast_tick(set, tick, score.unwrap_or(0.0), &mut outcome.decisions);
            }
            // While ticks of the media remain, the full score waits for chat as it always does.
            let rest = end.filter(|_| fast.is_none());
            while let Some((tick, score)) = self.window.next_full(set, rest) {
                self.full_tick(set, tick, score, outcome);
            }
            if fast.is_none() {
                break;
            }
        }
        if end.is_none() {
            self.take_marks(set, &mut outcome.decisions);
        }
    }

    fn fast_tick(&mut self, set: &DimensionSet, tick: Bucket, score: f64, out: &mut Vec<Decision>) {
        match self.fast.push(set, tick, score) {
            Step::Entered(entry) => {
                let mut evaluation = set.evaluate(&self.window.media(tick));
                evaluation.score = evaluation.score.max(score);
                self.decider.raise(set, entry, &evaluation, out);
            }
            Step::Closed(span) => self.decider.settle(&span),
            Step::None => {}
        }
    }

    /// Marks whose instant the media have passed.
    fn take_marks(&mut self, set: &DimensionSet, out: &mut Vec<Decision>) {
        let known = self.window.fast_known();
        let (due, later) = std::mem::take(&mut self.marks).into_iter().partition(|at| at.bucket() < known);
        self.marks = later;
        let due: Vec<MediaTime> = due;
        for at in due {
            self.decider.mark(set, at, out);
        }
    }

    fn full_tick(&mut self, set: &DimensionSet, tick: Bucket, score: f64, outcome: &mut Outcome) {
        if self.told && self.decider.awaits(tick) {
            // The media rose again while the audience still talked: that is the next moment.
            (self.full, self.told) = (Tracker::default(), false);
        }
        let step = self.full.push(set, tick, score);
        let is_peak = self.full.open().is_some_and(|span| span.peak == tick);
        if is_peak {
            self.peak = set.evaluate(&self.window.aligned(tick));
        }
        self.full_step(set, step, outcome);
        self.end_with_media(set, tick, outcome);
        self.decider.pass(set, tick, &mut outcome.decisions);
        outcome.scores.push(ScoredTick { session: self.number, bucket: tick, score });
    }

    fn full_step(&mut self, set: &DimensionSet, step: Step, outcome: &mut Outcome) {
        match step {
            Step::Entered(entry) => {
                self.told = !self.decider.confirm(set, entry, &self.peak, &mut outcome.decisions);
            }
            Step::Closed(span) if !self.told => {
                self.decider.finalize(set, &span, &self.peak, &mut outcome.decisions);
            }
            Step::Closed(_) | Step::None => {}
        }
    }

    /// A moment that the media raised ends where they end: once its last tick is fully known it is
    /// final, however long the audience goes on about it.
    fn end_with_media(&mut self, set: &DimensionSet, tick: Bucket, outcome: &mut Outcome) {
        let (Some(span), Some(last)) = (self.full.open(), self.decider.media_end(tick)) else { return };
        if !self.told {
            let span = Span { last: last.max(span.peak), ..*span };
            self.decider.finalize(set, &span, &self.peak, &mut outcome.decisions);
            self.told = true;
        }
    }
}
