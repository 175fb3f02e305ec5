//! How things look from outside: one representation for the API and for webhooks.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::event::{Event, EventType};
use crate::highlight::{Factor, Highlight, HighlightState, StoredHighlight};
use crate::id::{HighlightId, OrganizationId, StreamId};
use crate::time::{MediaTime, Session, WallTime};

/// Builds the stable addresses that events and answers carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    base: String,
}

impl Links {
    /// `base` is how the API is reached from outside, `https://crest.example`.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into().trim_end_matches('/').to_owned() }
    }
    /// A stream.
    pub fn stream(&self, id: &StreamId) -> String {
        format!("{}/v1/streams/{id}", self.base)
    }
    /// A highlight.
    pub fn highlight(&self, id: &HighlightId) -> String {
        format!("{}/v1/highlights/{id}", self.base)
    }
}

/// A highlight as the API and webhooks show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HighlightView {
    /// Its id, fixed at first detection.
    pub id: String,
    /// The stream.
    pub stream_id: String,
    /// The session whose timeline the times are on.
    pub session: u32,
    /// `provisional`, `final`, `ready`, `failed` or `deleted`.
    pub state: String,
    /// Rises with each change that is told.
    pub revision: u64,
    /// First instant, in media seconds.
    pub start_s: f64,
    /// Last instant, in media seconds.
    pub end_s: f64,
    /// Best instant, in media seconds, corrected for the lag of chat.
    pub peak_s: f64,
    /// Wall-clock time of `start_s`, RFC 3339 UTC.
    pub started_at: String,
    /// Wall-clock time of `end_s`, RFC 3339 UTC.
    pub ended_at: String,
    /// 0..1.
    pub score: f64,
    /// The highlight type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Value of each dimension at the peak, 0..1.
    pub dimensions: BTreeMap<String, f64>,
    /// What made the score, largest first.
    pub factors: Vec<FactorView>,
    /// Version of the dimension set that decided.
    pub dimension_set_version: u64,
    /// Why it was deleted or failed.
    pub reason: Option<String>,
    /// Where it can be read again.
    pub url: String,
    /// Where the clip is, once ready.
    pub clip_url: Option<String>,
    /// Where the thumbnail is, once ready.
    pub thumbnail_url: Option<String>,
    /// Media seconds of the clip's first frame, once ready.
    pub clip_start_s: Option<f64>,
    /// Length of the clip in seconds, once ready.
    pub clip_duration_s: Option<f64>,
}

/// How much one signal contributed to a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FactorView {
    /// The signal's name.
    pub signal: String,
    /// Its share of the score.
    pub contribution: f64,
}

impl From<&Factor> for FactorView {
    fn from(factor: &Factor) -> Self {
        Self { signal: factor.signal.clone(), contribution: factor.contribution }
    }
}

impl HighlightView {
    /// The view of a decision of which nothing has been made yet.
    pub fn of_decision(highlight: &Highlight, session_started_at: WallTime, links: &Links) -> Self {
        let wall = |at: MediaTime| session_started_at.plus_millis(at.nanos() / 1_000_000).rfc3339();
        Self {
            id: highlight.id.to_string(),
            stream_id: highlight.stream_id.to_string(),
            session: highlight.session.number(),
            state: highlight.state.name().to_owned(),
            revision: highlight.revision,
            start_s: highlight.start.secs_f64(),
            end_s: highlight.end.secs_f64(),
            peak_s: highlight.peak.secs_f64(),
            started_at: wall(highlight.start),
            ended_at: wall(highlight.end),
            score: highlight.score,
            kind: highlight.kind.clone(),
            dimensions: highlight.dimensions.clone(),
            factors: highlight.factors.iter().map(FactorView::from).collect(),
            dimension_set_version: highlight.dimension_set_version,
            reason: highlight.reason.clone(),
            url: links.highlight(&highlight.id),
            clip_url: None,
            thumbnail_url: None,
            clip_start_s: None,
            clip_duration_s: None,
        }
    }

    /// The view of a stored highlight.
    pub fn of_stored(stored: &StoredHighlight, links: &Links) -> Self {
        let mut view = Self::of_decision(&stored.highlight, stored.session_started_at, links);
        if stored.highlight.state == HighlightState::Ready {
            view.clip_url = stored.clip.as_ref().map(|_| format!("{}/clip", view.url));
            view.thumbnail_url = stored.thumbnail.as_ref().map(|_| format!("{}/thumbnail", view.url));
            view.clip_start_s = stored.clip_start.map(MediaTime::secs_f64);
            view.clip_duration_s = stored.clip_duration.map(MediaTime::secs_f64);
        }
        view
    }

    /// The event that tells this view.
    pub fn event(&self, organization: &OrganizationId, event_type: EventType, now: WallTime) -> Event {
        let data = serde_json::to_value(self).unwrap_or_default();
        let mut event = Event::new(organization.clone(), event_type, self.id.clone(), self.revision, now, data);
        event.stream_id = Some(StreamId::from_raw(self.stream_id.clone()));
        event.session = Some(Session::new(self.session));
        event.score = Some(self.score);
        event
    }
}

/// The event that tells what became of a stream. Its revision is the millisecond at which the step was
/// taken, so that a second interruption is a second event; a step is taken once, and the event is
/// frozen with it.
pub fn stream_event(
    organization: &OrganizationId,
    stream: &StreamId,
    session: Option<Session>,
    event_type: EventType,
    reason: Option<&str>,
    now: WallTime,
    links: &Links,
) -> Event {
    let data = serde_json::json!({
        "stream_id": stream.as_str(),
        "session": session.map(Session::number),
        "reason": reason,
        "url": links.stream(stream),
    });
    let revision = u64::try_from(now.0).unwrap_or(0);
    let mut event = Event::new(organization.clone(), event_type, stream.as_str(), revision, now, data);
    event.stream_id = Some(stream.clone());
    event.session = session;
    event
}
