//! Events: what tenants are told, once in effect.

use serde::{Deserialize, Serialize};

use crate::id::{EventId, OrganizationId, StreamId};
use crate::time::{Session, WallTime};
use crate::trace::Trace;

/// The types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventType {
    /// The first media of a session arrived.
    #[serde(rename = "stream.started")]
    StreamStarted,
    /// The feed broke off and may come back.
    #[serde(rename = "stream.interrupted")]
    StreamInterrupted,
    /// The feed came back.
    #[serde(rename = "stream.resumed")]
    StreamResumed,
    /// The stream is over.
    #[serde(rename = "stream.ended")]
    StreamEnded,
    /// The stream is over because going on was impossible.
    #[serde(rename = "stream.failed")]
    StreamFailed,
    /// A highlight was seen; provisional, always the first event about it.
    #[serde(rename = "highlight.detected")]
    HighlightDetected,
    /// What is known of a highlight changed.
    #[serde(rename = "highlight.updated")]
    HighlightUpdated,
    /// The clip can be played.
    #[serde(rename = "highlight.ready")]
    HighlightReady,
    /// The clip could not be made.
    #[serde(rename = "highlight.failed")]
    HighlightFailed,
    /// A highlight was withdrawn, with a reason.
    #[serde(rename = "highlight.deleted")]
    HighlightDeleted,
    /// A batch of files is done.
    #[serde(rename = "batch.completed")]
    BatchCompleted,
    /// A batch of files failed.
    #[serde(rename = "batch.failed")]
    BatchFailed,
    /// An endpoint failed for so long that it was switched off.
    #[serde(rename = "webhook.disabled")]
    WebhookDisabled,
    /// A quota is nearly used up.
    #[serde(rename = "usage.warning")]
    UsageWarning,
    /// A quota is used up.
    #[serde(rename = "usage.limit_reached")]
    UsageLimitReached,
}

impl EventType {
    /// Every type.
    pub const ALL: [EventType; 15] = [
        Self::StreamStarted,
        Self::StreamInterrupted,
        Self::StreamResumed,
        Self::StreamEnded,
        Self::StreamFailed,
        Self::HighlightDetected,
        Self::HighlightUpdated,
        Self::HighlightReady,
        Self::HighlightFailed,
        Self::HighlightDeleted,
        Self::BatchCompleted,
        Self::BatchFailed,
        Self::WebhookDisabled,
        Self::UsageWarning,
        Self::UsageLimitReached,
    ];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StreamStarted => "stream.started",
            Self::StreamInterrupted => "stream.interrupted",
            Self::StreamResumed => "stream.resumed",
            Self::StreamEnded => "stream.ended",
            Self::StreamFailed => "stream.failed",
            Self::HighlightDetected => "highlight.detected",
            Self::HighlightUpdated => "highlight.updated",
            Self::HighlightReady => "highlight.ready",
            Self::HighlightFailed => "highlight.failed",
            Self::HighlightDeleted => "highlight.deleted",
            Self::BatchCompleted => "batch.completed",
            Self::BatchFailed => "batch.failed",
            Self::WebhookDisabled => "webhook.disabled",
            Self::UsageWarning => "usage.warning",
            Self::UsageLimitReached => "usage.limit_reached",
        }
    }
    /// The type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

/// Something that happened, ready to be told. Its body is frozen when it is committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Derived from organization, type, subject and revision.
    pub id: EventId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// Its type.
    pub event_type: EventType,
    /// Id of the stream, highlight, ... it is about.
    pub subject: String,
    /// Distinguishes events of one type about one subject.
    pub revision: u64,
    /// When it happened.
    pub timestamp: WallTime,
    /// The stream it belongs to; events of one stream reach an endpoint in order.
    pub stream_id: Option<StreamId>,
    /// The session it belongs to.
    pub session: Option<Session>,
    /// The score that an endpoint's `min_score` is compared with; `None` passes always.
    pub score: Option<f64>,
    /// The body's `data`, without the endpoint's `sequence`.
    pub data: serde_json::Value,
    /// What it follows from; no part of its body.
    #[serde(skip)]
    pub trace: Option<Trace>,
}

impl Event {
    /// An event with its derived id.
    pub fn new(
        organization_id: OrganizationId,
        event_type: EventType,
        subject: impl Into<String>,
        revision: u64,
        timestamp: WallTime,
        data: serde_json::Value,
    ) -> Self {
        let subject = subject.into();
        let id = EventId::derive(&organization_id, event_type.name(), &subject, revision);
        Self {
            id,
            organization_id,
            event_type,
            subject,
            revision,
            timestamp,
            stream_id: None,
            session: None,
            score: None,
            data,
            trace: None,
        }
    }

    /// The body that an endpoint receives: `{type, timestamp, data}` with the endpoint's `sequence`
    /// in `data`.
    pub fn body(&self, sequence: u64) -> String {
        let mut data = self.data.clone();
        if let serde_json::Value::Object(map) = &mut data {
            map.insert("sequence".into(), sequence.into());
        }
        serde_json::json!({"type": self.event_type.name(), "timestamp": self.timestamp.rfc3339(), "data": data})
            .to_string()
    }
}
