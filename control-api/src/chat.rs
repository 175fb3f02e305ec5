//! Chat that arrives over the API: placed, put on the bus, and only then answered for.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crest_core::bus::Record;
use crest_core::chat::{ChatKind, ChatMessage};
use crest_core::crash::{Stage, around};
use crest_core::topic::Topic;
use crest_core::{MediaTime, OrganizationId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Shared;
use crate::codes::Code;
use crate::config::ApiConfig;
use crate::extract::{Body, Traced};
use crate::names;
use crate::openapi::tag;
use crate::owned::OwnStream;
use crate::problem::{Problem, ProblemBody};
use crate::text::MAX_NAME_BYTES;
use crate::timeline::Timeline;

const MAX_EMOTES: usize = 100;

/// Messages in one request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatBatch {
    /// The messages, at most 1000 unless the server is configured otherwise; in any order.
    messages: Vec<Message>,
}

/// A chat message. `at` or `t` says when it was written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// When it was written, RFC 3339.
    #[schema(format = DateTime)]
    at: Option<String>,
    /// When it was written, in media seconds of the current session.
    t: Option<f64>,
    /// The platform's id of the message, at most 200 bytes: sent again, for instance because an answer
    /// got lost, it counts once.
    id: Option<String>,
    /// Who wrote it, 1 to 200 bytes.
    user: String,
    /// What was written, at most 2000 bytes unless the server is configured otherwise.
    text: String,
    /// Emotes in it, by name.
    #[serde(default)]
    emotes: Vec<String>,
    /// Bits paid with it.
    bits: Option<u32>,
    /// What it is; `message` without it.
    #[serde(default)]
    #[schema(value_type = names::ChatKindName)]
    kind: ChatKind,
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// Messages that are safe with crest now: all of the batch.
    accepted: usize,
}

/// Send chat messages
///
/// All of them are accepted or none. They are placed on the current session's timeline and survive a
/// crash of the server once this has answered.
#[utoipa::path(post, path = "/v1/streams/{id}/chat", operation_id = "sendChat", tag = tag::STREAMS,
    params(("id" = String, Path, description = "Id of the stream")), request_body = ChatBatch,
    responses(
        (status = 202, body = Accepted, description = "All are accepted"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json",
            description = "`stream_not_live`: nothing was published yet. `stream_over`: nothing follows"),
    ))]
pub async fn send(
    State(api): State<Shared>,
    OwnStream(stream): OwnStream,
    Traced(trace): Traced,
    Body(batch): Body<ChatBatch>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let timeline = Timeline::current(&api, &stream).await?;
    let accepted = batch.messages.len();
    if accepted > api.config.max_chat_messages {
        return Err(Problem::new(
            Code::TooManyMessages,
            format!("messages: {accepted} are more than {} at a time.", api.config.max_chat_messages),
        ));
    }
    let mut records = Vec::with_capacity(accepted);
    for (index, message) in batch.messages.into_iter().enumerate() {
        let media = check(&message, &timeline, &api.config)
            .map_err(|wrong| Problem::new(Code::InvalidMessage, format!("messages[{index}]: {wrong}.")))?;
        let payload = placed(message, media, &timeline, &stream.organization_id).encode()?;
        records.push(Record::new(Topic::ChatMessages, stream.id.clone(), payload).traced(Some(trace)));
    }
    if !records.is_empty() {
        around(Stage::Chat, api.bus.append(Topic::ChatMessages, records)).await?;
        metrics::counter!("crest_chat_messages_accepted_total").increment(accepted as u64);
    }
    Ok((StatusCode::ACCEPTED, Json(Accepted { accepted })))
}

fn placed(message: Message, at: MediaTime, timeline: &Timeline, organization: &OrganizationId) -> ChatMessage {
    ChatMessage {
        organization_id: organization.clone(),
        session: timeline.session,
        at,
        id: Some(message.id.unwrap_or_else(ChatMessage::new_id)),
        user: message.user,
        text: message.text,
        kind: message.kind,
        emotes: message.emotes,
        bits: message.bits,
    }
}

/// Where a message lies, or what is wrong with it.
fn check(message: &Message, timeline: &Timeline, config: &ApiConfig) -> Result<MediaTime, String> {
    if message.user.is_empty() || message.user.len() > MAX_NAME_BYTES {
        return Err(format!("'user' must have 1 to {MAX_NAME_BYTES} bytes"));
    }
    if message.id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_NAME_BYTES) {
        return Err(format!("'id' must have 1 to {MAX_NAME_BYTES} bytes"));
    }
    if message.text.len() > config.max_chat_text_bytes {
        return Err(format!("'text' has more than {} bytes", config.max_chat_text_bytes));
    }
    let emote = |name: &String| !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_whitespace);
    if message.emotes.len() > MAX_EMOTES || !message.emotes.iter().all(emote) {
        return Err(format!("'emotes' must be at most {MAX_EMOTES} names without blanks"));
    }
    timeline.place(message.at.as_deref(), message.t)?.ok_or_else(|| "needs 'at' or 't'".into())
}
