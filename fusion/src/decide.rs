//! Spans become decisions. A span of the fast score raises a provisional highlight at once; the span
//! of the full score that overlaps it makes it final under the same id, or its absence withdraws it.

use crest_core::highlight::{Decision, Factor, Highlight, HighlightState};
use crest_core::{BUCKET_NANOS, Bucket, HighlightId, MediaTime, OrganizationId, Session, StreamId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::dimensions::{DimensionSet, Evaluation};
use crate::marks::Marks;
use crate::moments::{Span, ticks};
use crate::packed;

/// A moment is shown from this long before its entry: the window smooths its rise.
const LEAD: MediaTime = MediaTime::from_millis(1000);
/// And to this long after its last tick.
const TAIL: MediaTime = MediaTime::from_millis(500);
/// What a mark keeps before it and after it: people press the button late.
const MARK_BEFORE: MediaTime = MediaTime::from_millis(12_000);
const MARK_AFTER: MediaTime = MediaTime::from_millis(3_000);

/// A highlight that was told and is not final.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Open {
    highlight: Highlight,
    entry: Bucket,
    last: Bucket,
    /// The fast score has left it.
    settled: bool,
    /// The full score has entered it.
    confirmed: bool,
}

/// Decides about one session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decider {
    organization_id: OrganizationId,
    stream_id: StreamId,
    session: Session,
    open: Vec<Open>,
    /// The last final moment.
    last: Option<Span>,
    #[serde(with = "packed")]
    marks: Marks,
}

impl Decider {
    /// For a new session.
    pub fn new(organization_id: OrganizationId, stream_id: StreamId, session: Session) -> Self {
        Self { organization_id, stream_id, session, open: Vec::new(), last: None, marks: Marks::default() }
    }

    /// The fast score entered a moment.
    pub fn raise(&mut self, set: &DimensionSet, entry: Bucket, evaluation: &Evaluation, out: &mut Vec<Decision>) {
        let merge = ticks(set.merge_s);
        if let Some(open) = self.open.iter_mut().find(|o| entry <= o.last.forward(merge)) {
            (open.last, open.settled) = (open.last.max(entry), false);
            return;
        }
        if !self.cooling_down(set, entry) {
            self.detect(set, entry, evaluation, out);
        }
    }

    /// The fast score left a moment.
    pub fn settle(&mut self, span: &Span) {
        for open in self.open.iter_mut().filter(|o| o.entry <= span.last && span.entry <= o.last) {
            (open.last, open.settled) = (open.last.max(span.last), true);
        }
    }

    /// The full score entered a moment. `false` where it comes too soon after the last one.
    pub fn confirm(
        &mut self,
        set: &DimensionSet,
        entry: Bucket,
        evaluation: &Evaluation,
        out: &mut Vec<Decision>,
    ) -> bool {
        if self.cooling_down(set, entry) {
            return false;
        }
        let merge = ticks(set.merge_s);
        let near = |o: &Open| o.entry <= entry.forward(merge) && (!o.settled || entry <= o.last.forward(merge));
        if !self.open.iter().any(near) {
            self.detect(set, entry, evaluation, out);
        }
        // On a merge the earliest id survives.
        if let Some(open) = self.open.iter_mut().filter(|o| near(o)).min_by_key(|o| o.entry) {
            open.confirmed = true;
        }
        true
    }

    /// Where the media of the confirmed moment ended, if they have and `tick` has reached it.
    pub fn media_end(&self, tick: Bucket) -> Option<Bucket> {
        self.open.iter().find(|o| o.confirmed && o.settled && o.last <= tick).map(|o| o.last)
    }

    /// Whether a provisional highlight that began at or before `tick` awaits confirmation.
    pub fn awaits(&self, tick: Bucket) -> bool {
        self.open.iter().any(|o| !o.confirmed && o.entry <= tick)
    }

    /// The full score left a moment that had been confirmed.
    pub fn finalize(&mut self, set: &DimensionSet, span: &Span, evaluation: &Evaluation, out: &mut Vec<Decision>) {
        let Some(index) = self.open.iter().position(|o| o.confirmed) else { return };
        let open = self.open.remove(index);
        let mut highlight = open.highlight;
        describe(&mut highlight, set, span, evaluation);
        highlight.state = HighlightState::Final;
        highlight.revision += 1;
        let end = span.last.forward(ticks(set.merge_s));
        out.push(Decision::Finalized { highlight });
        self.last = Some(*span);
        self.withdraw(out, "merged", |o| o.entry <= end);
    }

    /// The full score is known up to `tick`: what it passed without confirming is withdrawn.
    pub fn pass(&mut self, set: &DimensionSet, tick: Bucket, out: &mut Vec<Decision>) {
        let merge = ticks(set.merge_s);
        self.withdraw(out, "not_confirmed", |o| !o.confirmed && o.settled && o.last.forward(merge) < tick);
    }

    /// Nothing follows: what is not confirmed is withdrawn.
    pub fn close(&mut self, out: &mut Vec<Decision>) {
        self.withdraw(out, "not_confirmed", |_| true);
    }

    /// Whether that mark was decided before.
    pub fn knows(&self, at: MediaTime) -> bool {
        self.marks.knows(at)
    }

    /// A person marked an instant: a highlight of its own, unless one covers it.
    pub fn mark(&mut self, set: &DimensionSet, at: MediaTime, out: &mut Vec<Decision>) {
        if self.knows(at) {
            return;
        }
        let bucket = at.bucket();
        let covered = self.open.iter().any(|o| o.entry <= bucket && (!o.settled || bucket <= o.last))
            || self.last.is_some_and(|l| l.entry <= bucket && bucket <= l.last);
        self.marks.add(at, !covered);
        if covered {
            return;
        }
        let mut highlight = self.blank(set, bucket);
        // Its own name space: a moment may yet be entered in the same bucket.
        let marked = StreamId::from_raw(format!("{}/mark", self.stream_id));
        highlight.id = HighlightId::derive(&marked, self.session, bucket);
        highlight.kind = "marker".to_owned();
        (highlight.start, highlight.end) = (at.saturating_sub(MARK_BEFORE), at + MARK_AFTER);
        (highlight.peak, highlight.score) = (at, 1.0);
        out.push(Decision::Detected { highlight: highlight.clone() });
        (highlight.state, highlight.revision) = (HighlightState::Final, 2);
        out.push(Decision::Finalized { highlight });
    }

    fn cooling_down(&self, set: &DimensionSet, entry: Bucket) -> bool {
        self.last.is_some_and(|l| entry <= l.last.forward(ticks(set.cooldown_s)))
    }

    fn detect(&mut self, set: &DimensionSet, entry: Bucket, evaluation: &Evaluation, out: &mut Vec<Decision>) {
        let mut highlight = self.blank(set, entry);
        describe(&mut highlight, set, &Span { entry, last: entry, peak: entry, score: evaluation.score }, evaluation);
        out.push(Decision::Detected { highlight: highlight.clone() });
        self.open.push(Open { highlight, entry, last: entry, settled: false, confirmed: false });
    }

    fn withdraw(&mut self, out: &mut Vec<Decision>, reason: &str, which: impl Fn(&Open) -> bool) {
        self.open.retain(|open| {
            let goes = which(open);
            if goes {
                let mut highlight = open.highlight.clone();
                highlight.state = HighlightState::Deleted;
                highlight.revision += 1;
                highlight.reason = Some(reason.to_owned());
                out.push(Decision::Deleted { highlight });
            }
            !goes
        });
    }

    fn blank(&self, set: &DimensionSet, entry: Bucket) -> Highlight {
        Highlight {
            id: HighlightId::derive(&self.stream_id, self.session, entry),
            organization_id: self.organization_id.clone(),
            stream_id: self.stream_id.clone(),
            session: self.session,
            state: HighlightState::Provisional,
            revision: 1,
            start: MediaTime::ZERO,
            end: MediaTime::ZERO,
            peak: MediaTime::ZERO,
            score: 0.0,
            kind: "highlight".to_owned(),
            dimensions: BTreeMap::new(),
            factors: Vec::new(),
            dimension_set_version: set.version,
            reason: None,
        }
    }
}

fn describe(highlight: &mut Highlight, set: &DimensionSet, span: &Span, evaluation: &Evaluation) {
    highlight.start = span.entry.start().saturating_sub(LEAD);
    highlight.end = span.last.end() + TAIL;
    highlight.peak = span.peak.start() + MediaTime::from_nanos(BUCKET_NANOS / 2);
    let missing = MediaTime::from_secs_f64(set.shortest_s).saturating_sub(highlight.end - highlight.start);
    let half = MediaTime::from_nanos(missing.nanos() / 2);
    highlight.start = highlight.start.saturating_sub(half);
    highlight.end = highlight.end + half;
    highlight.score = span.score.clamp(0.0, 1.0);
    highlight.dimensions = evaluation.dimensions.clone();
    // The window smooths the score; the factors are scaled so that they still add up to it.
    let scale = if evaluation.score > 0.0 { highlight.score / evaluation.score } else { 0.0 };
    let factor = |(signal, share): &(crest_core::signal::Signal, f64)| Factor {
        signal: signal.name().to_owned(),
        contribution: share * scale,
    };
    highlight.factors = evaluation.contributions.iter().map(factor).collect();
}
