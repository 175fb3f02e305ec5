//! The event types, each with the JSON Schema of its body and a sample.

use axum::Json;
use axum::extract::State;
use crest_core::event::{Event, EventType};
use crest_core::highlight::{Factor, Highlight, HighlightState, StoredHighlight};
use crest_core::view::{FactorView, HighlightView, Links, stream_event};
use crest_core::{Bucket, HighlightId, MediaTime, OrganizationId, Session, StreamId, WallTime};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::{PartialSchema, ToSchema};

use crate::Shared;
use crate::names;
use crate::openapi::tag;
use crate::page::List;

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventTypeView {
    /// Its name.
    #[serde(rename = "type")]
    #[schema(value_type = names::EventTypeName)]
    event_type: EventType,
    /// When it is sent.
    description: &'static str,
    /// Whether this version sends it.
    available: bool,
    /// JSON Schema (2020-12) of the body.
    schema: Value,
    /// A body.
    sample: Value,
}

/// List the types of events that webhooks receive
#[utoipa::path(get, path = "/v1/event-types", operation_id = "listEventTypes", tag = tag::CATALOGUES,
    responses((status = 200, body = List<EventTypeView>, description = "All event types")))]
pub async fn list(State(api): State<Shared>) -> Json<List<EventTypeView>> {
    Json(List { data: EventType::ALL.map(|event_type| view(event_type, &api.links)).into(), next: None })
}

fn view(event_type: EventType, links: &Links) -> EventTypeView {
    let (description, subject) = about(event_type);
    EventTypeView {
        event_type,
        description,
        available: !matches!(subject, Subject::Later),
        schema: schema(event_type, &subject),
        sample: serde_json::from_str(&sample(event_type, &subject, links).body(1)).unwrap_or_default(),
    }
}

enum Subject {
    Stream,
    Highlight(HighlightState),
    Later,
}

fn about(event_type: EventType) -> (&'static str, Subject) {
    use HighlightState::{Deleted, Failed, Provisional, Ready};
    use Subject::{Highlight, Later, Stream};
    match event_type {
        EventType::StreamStarted => ("The first media of a session arrived.", Stream),
        EventType::StreamInterrupted => ("The feed broke off and may come back.", Stream),
        EventType::StreamResumed => ("The feed came back.", Stream),
        EventType::StreamEnded => ("The stream is over.", Stream),
        EventType::StreamFailed => ("The stream is over because going on was impossible.", Stream),
        EventType::HighlightDetected => ("A highlight was seen; always the first about it.", Highlight(Provisional)),
        EventType::HighlightUpdated => ("What is known of a highlight changed.", Highlight(Provisional)),
        EventType::HighlightReady => ("The clip can be played.", Highlight(Ready)),
        EventType::HighlightFailed => ("The clip could not be made.", Highlight(Failed)),
        EventType::HighlightDeleted => ("A highlight was withdrawn, with a reason.", Highlight(Deleted)),
        EventType::BatchCompleted => ("A batch of files is done.", Later),
        EventType::BatchFailed => ("A batch of files failed.", Later),
        EventType::WebhookDisabled => ("An endpoint failed for so long that it was switched off.", Later),
        EventType::UsageWarning => ("A quota is nearly used up.", Later),
        EventType::UsageLimitReached => ("A quota is used up.", Later),
    }
}

fn schema(event_type: EventType, subject: &Subject) -> Value {
    let sequence = json!({
        "type": "object", "required": ["sequence"],
        "properties": {"sequence": {"type": "integer", "minimum": 1,
            "description": "Counts the endpoint's events without a gap."}},
    });
    let (data, definitions) = match subject {
        Subject::Highlight(_) => (
            json!({"allOf": [{"$ref": "#/$defs/HighlightView"}, sequence]}),
            json!({"HighlightView": own_schema::<HighlightView>(), "FactorView": own_schema::<FactorView>()}),
        ),
        Subject::Stream => (
            json!({"allOf": [{"$ref": "#/$defs/Stream"}, sequence]}),
            json!({"Stream": {
                "type": "object", "required": ["stream_id", "session", "reason", "url"],
                "properties": {
                    "stream_id": {"type": "string"},
                    "session": {"type": ["integer", "null"], "minimum": 1},
                    "reason": {"type": ["string", "null"]},
                    "url": {"type": "string", "format": "uri"},
                },
            }}),
        ),
        Subject::Later => (sequence, json!({})),
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": event_type.name(),
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": event_type.name()},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": data,
        },
        "$defs": definitions,
    })
}

/// A schema of the API description, made to stand alone.
fn own_schema<T: PartialSchema>() -> Value {
    let text = serde_json::to_string(&T::schema()).unwrap_or_default();
    serde_json::from_str(&text.replace("#/components/schemas/", "#/$defs/")).unwrap_or_default()
}

fn sample(event_type: EventType, subject: &Subject, links: &Links) -> Event {
    let organization = OrganizationId::from_raw("org_019ab2c4d5e67890a1b2c3d4e5f60718");
    let stream = StreamId::from_raw("str_019ab2c4d5e67890a1b2c3d4e5f60719");
    // 2026-11-21T18:00:00Z
    let started = WallTime(1_795_284_000_000);
    let now = started.plus_millis(754_000);
    match subject {
        Subject::Stream => {
            let reason = matches!(event_type, EventType::StreamInterrupted | EventType::StreamFailed)
                .then_some("the connection broke off");
            stream_event(&organization, &stream, Some(Session::new(1)), event_type, reason, now, links)
        }
        Subject::Highlight(state) => {
            let stored = sample_highlight(organization.clone(), stream, *state, started);
            HighlightView::of_stored(&stored, links).event(&organization, event_type, now)
        }
        Subject::Later => Event::new(organization, event_type, "sample", 1, now, json!({})),
    }
}

fn sample_highlight(
    organization_id: OrganizationId,
    stream_id: StreamId,
    state: HighlightState,
    started: WallTime,
) -> StoredHighlight {
    let session = Session::new(1);
    let at = MediaTime::from_millis;
    let reason = match state {
        HighlightState::Failed => Some("the media is not stored any more".to_owned()),
        HighlightState::Deleted => Some("the slower signals did not confirm it".to_owned()),
        _ => None,
    };
    let factor = |signal: &str, contribution| Factor { signal: signal.to_owned(), contribution };
    let id = HighlightId::derive(&stream_id, session, Bucket::new(1468));
    let (clip, thumbnail) = (Some(format!("{id}.mp4")), Some(format!("{id}.jpg")));
    StoredHighlight {
        highlight: Highlight {
            id,
            organization_id,
            stream_id,
            session,
            state,
            revision: if state == HighlightState::Provisional { 1 } else { 3 },
            start: at(734_000),
            end: at(748_500),
            peak: at(741_500),
            score: 0.82,
            kind: "highlight".into(),
            dimensions: BTreeMap::from([("excitement".to_owned(), 0.82)]),
            factors: vec![factor("audio_loudness", 0.44), factor("chat_rate", 0.38)],
            dimension_set_version: 1,
            reason,
        },
        clip,
        thumbnail,
        clip_start: Some(at(733_200)),
        clip_duration: Some(at(15_300)),
        session_started_at: started,
        detected_at: started.plus_millis(744_000),
    }
}
