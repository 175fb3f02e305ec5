//! Moments that a person marks by hand.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crest_core::bus::Record;
use crest_core::chat::Mark;
use crest_core::topic::Topic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Shared;
use crate::codes::Code;
use crate::extract::{OptionalBody, Traced};
use crate::openapi::tag;
use crate::owned::OwnStream;
use crate::problem::{Problem, ProblemBody};
use crate::text::name_problem;
use crate::timeline::Timeline;

/// A moment to mark: now, unless `at` or `t` says otherwise.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMarker {
    /// When, RFC 3339.
    #[schema(format = DateTime)]
    at: Option<String>,
    /// When, in media seconds of the current session.
    t: Option<f64>,
    /// What you call it, 1 to 200 bytes.
    label: Option<String>,
}

/// A marked moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarkerView {
    /// The stream.
    stream_id: String,
    /// The session whose timeline `t` is on.
    session: u32,
    /// When, in media seconds.
    t: f64,
    /// When, RFC 3339 UTC.
    at: String,
    /// What it is called.
    label: Option<String>,
}

/// Mark a moment
///
/// The mark survives a crash of the server once this has answered.
#[utoipa::path(post, path = "/v1/streams/{id}/markers", operation_id = "createMarker", tag = tag::STREAMS,
    params(("id" = String, Path, description = "Id of the stream")), request_body = Option<NewMarker>,
    responses(
        (status = 202, body = MarkerView, description = "The mark as it was placed"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json",
            description = "`stream_not_live`: nothing was published yet. `stream_over`: nothing follows"),
    ))]
pub async fn create(
    State(api): State<Shared>,
    OwnStream(stream): OwnStream,
    Traced(trace): Traced,
    OptionalBody(new): OptionalBody<NewMarker>,
) -> Result<(StatusCode, Json<MarkerView>), Problem> {
    let new = new.unwrap_or_default();
    let label = new.label.as_deref().map(|label| name_problem("label", label)).transpose()?;
    let timeline = Timeline::current(&api, &stream).await?;
    let media = timeline
        .place(new.at.as_deref(), new.t)
        .map_err(|wrong| Problem::new(Code::InvalidTime, format!("The mark {wrong}.")))?
        .unwrap_or_else(|| timeline.present());
    if media > timeline.soon() {
        return Err(Problem::new(
            Code::InvalidTime,
            "The mark lies in the future; mark a moment when it has happened.",
        ));
    }
    let mark = Mark {
        organization_id: stream.organization_id.clone(),
        session: timeline.session,
        at: media,
        label: label.clone(),
    };
    let record = Record::new(Topic::Marks, stream.id.clone(), mark.encode()?).traced(Some(trace));
    api.bus.append(Topic::Marks, vec![record]).await?;
    let view = MarkerView {
        stream_id: stream.id.to_string(),
        session: timeline.session.number(),
        t: media.secs_f64(),
        at: timeline.wall(media).rfc3339(),
        label,
    };
    Ok((StatusCode::ACCEPTED, Json(view)))
}
