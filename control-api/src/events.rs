//! The event stream: what webhooks tell, for those who cannot be reached from outside.
//!
//! A page of events is read from the store only when the one before has gone out, so a reader that is
//! slow holds one page and no more. Nothing is kept for a reader that is away: it says where it was.

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use axum::response::sse::{Event as Message, Sse};
use axum::response::{IntoResponse, Response};
use crest_core::event::EventType;
use crest_core::store::PositionedEvent;
use crest_core::{EventId, OrganizationId};
use futures::stream::unfold;
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::Shared;
use crate::auth::Tenant;
use crate::codes::Code;
use crate::event_hub::{EventHub, Listener};
use crate::extract::Params;
use crate::openapi::tag;
use crate::problem::{Problem, ProblemBody};

/// Events that are read at once.
const PAGE: u32 = 64;
/// Longer than any cursor.
const MAX_CURSOR_BYTES: usize = 128;
/// Where a client says how far it came.
const LAST_EVENT_ID: &str = "last-event-id";
/// Whose events these are.
const ORGANIZATION: HeaderName = HeaderName::from_static("crest-organization");
/// Tells nginx to pass on each event as it comes.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Which events are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventParams {
    /// The `id` of the last event that was taken, or `0` for everything that is still kept. Without
    /// it, the stream begins now. The header `Last-Event-ID` goes before it.
    after: Option<String>,
    /// The types that are wanted, separated by commas; without it, all.
    #[param(example = "highlight.ready,stream.ended")]
    types: Option<String>,
}

/// Receive events as they happen
///
/// Server-sent events of the asking organization, one for each of its events, in the order in which
/// they happened: `event` is the type, `data` the body that webhooks have (`{type, timestamp, data}`;
/// `sequence` counts the organization's events without a gap), `id` a cursor. A client that
/// comes back with the last `id` it has taken misses nothing and gets nothing twice; the part of
/// the `id` after the first `-` is the event's own id. The first message has an `id` alone: where
/// the stream begins. A comment comes where nothing else does for a while. Events older than
/// `store.keep_events` are forgotten.
#[utoipa::path(get, path = "/v1/events", operation_id = "streamEvents", tag = tag::WEBHOOKS,
    params(
        EventParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was taken"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "Events, until the client leaves",
            headers(("crest-organization" = String, description = "Id of the organization whose events these are"))),
        (status = 422, body = ProblemBody, content_type = "application/problem+json",
            description = "`unknown_event_type`"),
        (status = 429, body = ProblemBody, content_type = "application/problem+json",
            description = "`too_many_event_streams`: of this organization, or of the server"),
    ))]
pub async fn stream(
    State(api): State<Shared>,
    Extension(hub): Extension<EventHub>,
    Tenant(organization): Tenant,
    headers: HeaderMap,
    Params(params): Params<EventParams>,
) -> Result<Response, Problem> {
    let types = types(params.types.as_deref())?;
    let listener = hub.listen(&organization.id)?;
    let taken = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("-").to_owned());
    let after = taken.filter(|id| !id.is_empty()).or(params.after);
    let (after, first) = match after {
        Some(cursor) => (resume(&api, &organization.id, &cursor).await?, Message::default()),
        None => {
            let last = last(&api, &organization.id).await?;
            (last, Message::default().id(last.to_string()))
        }
    };
    let reader = Reader {
        organization: organization.id.clone(),
        listener,
        types,
        after,
        ready: VecDeque::from([first.comment("crest")]),
        spoke: Instant::now(),
        api,
    };
    let mut response = Sse::new(unfold(reader, Reader::next)).into_response();
    let answer = response.headers_mut();
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.insert(UNBUFFERED, HeaderValue::from_static("no"));
    if let Ok(id) = HeaderValue::from_str(organization.id.as_str()) {
        answer.insert(ORGANIZATION, id);
    }
    Ok(response)
}

fn types(wanted: Option<&str>) -> Result<Vec<EventType>, Problem> {
    let names = wanted.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let unknown = || format!("types: '{name}' is not one; GET /v1/event-types lists them.");
            EventType::parse(name).ok_or_else(|| Problem::new(Code::UnknownEventType, unknown()))
        })
        .collect()
}

async fn last(api: &Shared, organization: &OrganizationId) -> Result<u64, Problem> {
    let positions = api.store.last_positions(std::slice::from_ref(organization)).await?;
    Ok(positions.get(organization).copied().unwrap_or(0))
}

/// The position that a cursor names: `17-evt_...`, or `17` alone. One that this store has not handed
/// out to this organization is refused: to go on from it would silently leave events out.
async fn resume(api: &Shared, organization: &OrganizationId, cursor: &str) -> Result<u64, Problem> {
    let unknown = || {
        Problem::new(
            Code::InvalidCursor,
            "This server did not hand out that event id to this organization. Leave it out to begin now, or send 0 \
             for everything that is still kept.",
        )
    };
    let (number, event) = match cursor.split_once('-') {
        Some((number, event)) => (number, Some(EventId::from_raw(event))),
        None => (cursor, None),
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let position = number.parse::<u64>().ok().filter(|_| digits && cursor.len() <= MAX_CURSOR_BYTES);
    let position = position.ok_or_else(unknown)?;
    if position > last(api, organization).await? {
        return Err(unknown());
    }
    if let Some(event) = event
        && api.store.event_at(organization, position).await?.is_some_and(|there| there != event)
    {
        return Err(unknown());
    }
    Ok(position)
}

/// One client's way through the events.
struct Reader {
    api: Shared,
    organization: OrganizationId,
    listener: Listener,
    /// The types that are wanted; empty means all.
    types: Vec<EventType>,
    /// The position up to which everything was read.
    after: u64,
    /// What was read and is not sent yet.
    ready: VecDeque<Message>,
    /// When something was sent last.
    spoke: Instant,
}

impl Reader {
    /// The next message; `None` ends the stream, and the client comes back.
    async fn next(mut self) -> Option<(Result<Message, Infallible>, Self)> {
        let shutdown = self.api.shutdown.clone();
        let message = tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            message = self.message() => message,
        }?;
        self.spoke = Instant::now();
        Some((Ok(message), self))
    }

    async fn message(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let silent_until = self.spoke + self.api.config.event_heartbeat.0;
            if Instant::now() >= silent_until {
                return Some(Message::default().comment("still here"));
            }
            self.listener.about_to_read();
            let page = match self.api.store.events_after(&self.organization, self.after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "events cannot be read; an event stream is closed");
                    return None;
                }
            };
            let Some(reached) = page.last().map(|event| event.position) else {
                tokio::select! {
                    () = self.listener.more() => {}
                    () = tokio::time::sleep_until(silent_until) => {}
                }
                continue;
            };
            self.after = reached;
            let types = &self.types;
            let wanted = |e: &&PositionedEvent| types.is_empty() || types.contains(&e.event.event_type);
            self.ready.extend(page.iter().filter(wanted).map(message));
        }
    }
}

fn message(positioned: &PositionedEvent) -> Message {
    let PositionedEvent { position, event } = positioned;
    Message::default().id(format!("{position}-{}", event.id)).event(event.event_type.name()).data(event.body(*position))
}
