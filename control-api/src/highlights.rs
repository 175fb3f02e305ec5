//! Highlights: lists, one, and what was made of it.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use crest_core::highlight::{HighlightState, StoredHighlight};
use crest_core::store::HighlightFilter;
use crest_core::view::HighlightView;
use crest_core::{OrganizationId, StreamId};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::Shared;
use crate::auth::Tenant;
use crate::codes::Code;
use crate::downloads::Downloads;
use crate::extract::Params;
use crate::files::{self, Binary};
use crate::names;
use crate::openapi::tag;
use crate::owned::{OwnHighlight, OwnStream};
use crate::page::{List, Pager};
use crate::problem::{Problem, ProblemBody};

const HIGHLIGHTS: Pager = Pager("highlights");

/// Which highlights are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct HighlightParams {
    /// Of this stream only.
    stream_id: Option<String>,
    /// In this state only; without it, all but the deleted.
    #[param(value_type = Option<names::HighlightStateName>)]
    state: Option<HighlightState>,
    /// Items in this part, from 1 to the server's maximum (200 unless configured); 50 without it.
    #[param(minimum = 1)]
    limit: Option<u32>,
    /// `next` of the part before.
    cursor: Option<String>,
}

/// Which of a stream's highlights are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StreamHighlightParams {
    /// In this state only; without it, all but the deleted.
    #[param(value_type = Option<names::HighlightStateName>)]
    state: Option<HighlightState>,
    /// Items in this part, from 1 to the server's maximum (200 unless configured); 50 without it.
    #[param(minimum = 1)]
    limit: Option<u32>,
    /// `next` of the part before.
    cursor: Option<String>,
}

/// List highlights, newest first
#[utoipa::path(get, path = "/v1/highlights", operation_id = "listHighlights", tag = tag::HIGHLIGHTS,
    params(HighlightParams),
    responses((status = 200, body = List<HighlightView>, description = "A part of the list")))]
pub async fn list(
    State(api): State<Shared>,
    Tenant(organization): Tenant,
    Params(params): Params<HighlightParams>,
) -> Result<Json<List<HighlightView>>, Problem> {
    let filter = HighlightFilter { stream: params.stream_id.map(StreamId::from_raw), state: params.state };
    listed(&api, &organization.id, &filter, params.limit, params.cursor.as_deref()).await
}

/// List a stream's highlights, newest first
#[utoipa::path(get, path = "/v1/streams/{id}/highlights", operation_id = "listStreamHighlights", tag = tag::STREAMS,
    params(("id" = String, Path, description = "Id of the stream"), StreamHighlightParams),
    responses((status = 200, body = List<HighlightView>, description = "A part of the list")))]
pub async fn list_of_stream(
    State(api): State<Shared>,
    OwnStream(stream): OwnStream,
    Params(params): Params<StreamHighlightParams>,
) -> Result<Json<List<HighlightView>>, Problem> {
    let filter = HighlightFilter { stream: Some(stream.id), state: params.state };
    listed(&api, &stream.organization_id, &filter, params.limit, params.cursor.as_deref()).await
}

async fn listed(
    api: &Shared,
    organization: &OrganizationId,
    filter: &HighlightFilter,
    limit: Option<u32>,
    cursor: Option<&str>,
) -> Result<Json<List<HighlightView>>, Problem> {
    let page = HIGHLIGHTS.page(limit, cursor, api.config.max_page)?;
    let paged = api.store.highlights(organization, filter, &page).await;
    HIGHLIGHTS.answer(&page, paged, |stored| HighlightView::of_stored(stored, &api.links))
}

/// Show a highlight
#[utoipa::path(get, path = "/v1/highlights/{id}", operation_id = "getHighlight", tag = tag::HIGHLIGHTS,
    params(("id" = String, Path, description = "Id of the highlight")),
    responses((status = 200, body = HighlightView, description = "The highlight")))]
pub async fn get(State(api): State<Shared>, OwnHighlight(stored): OwnHighlight) -> Json<HighlightView> {
    Json(HighlightView::of_stored(&stored, &api.links))
}

/// Play or download a highlight's clip
///
/// One range of bytes may be asked for; where several are, the whole file is sent. Where clips lie in an
/// object storage, the answer is a redirect to a link that is valid for a while and needs no key; it knows
/// ranges as well.
#[utoipa::path(get, path = "/v1/highlights/{id}/clip", operation_id = "getClip", tag = tag::HIGHLIGHTS,
    params(("id" = String, Path, description = "Id of the highlight"), files::FileHeaders),
    responses(
        (status = 200, body = Binary, content_type = "video/mp4", description = "The clip"),
        (status = 206, body = Binary, content_type = "video/mp4", description = "The bytes asked for"),
        (status = 304, description = "As it was"),
        (status = 307, description = "It lies behind the link in `Location`, for a while",
            headers(("Location" = String, description = "The link; whoever has it may read the file until it expires"))),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`clip_not_ready`"),
        (status = 416, body = ProblemBody, content_type = "application/problem+json",
            description = "`range_not_satisfiable`"),
    ))]
pub async fn clip(
    State(api): State<Shared>,
    Extension(downloads): Extension<Downloads>,
    OwnHighlight(stored): OwnHighlight,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = made(&stored, stored.clip.as_deref(), "clip")?;
    let download = downloads.begin(&stored.highlight.organization_id)?;
    files::serve(&api, key, "video/mp4", &method, &headers, download).await
}

/// Show a highlight's thumbnail
///
/// As with clips, a redirect where thumbnails lie in an object storage.
#[utoipa::path(get, path = "/v1/highlights/{id}/thumbnail", operation_id = "getThumbnail", tag = tag::HIGHLIGHTS,
    params(("id" = String, Path, description = "Id of the highlight"), files::FileHeaders),
    responses(
        (status = 200, body = Binary, content_type = "image/jpeg", description = "The thumbnail"),
        (status = 206, body = Binary, content_type = "image/jpeg", description = "The bytes asked for"),
        (status = 304, description = "As it was"),
        (status = 307, description = "It lies behind the link in `Location`, for a while",
            headers(("Location" = String, description = "The link; whoever has it may read the file until it expires"))),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`clip_not_ready`"),
        (status = 416, body = ProblemBody, content_type = "application/problem+json",
            description = "`range_not_satisfiable`"),
    ))]
pub async fn thumbnail(
    State(api): State<Shared>,
    Extension(downloads): Extension<Downloads>,
    OwnHighlight(stored): OwnHighlight,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = made(&stored, stored.thumbnail.as_deref(), "thumbnail")?;
    let download = downloads.begin(&stored.highlight.organization_id)?;
    files::serve(&api, key, "image/jpeg", &method, &headers, download).await
}

/// The object key of what was made of a highlight, or why there is none.
fn made<'a>(stored: &StoredHighlight, key: Option<&'a str>, what: &str) -> Result<&'a str, Problem> {
    match (stored.highlight.state, key) {
        (HighlightState::Ready, Some(key)) => Ok(key),
        (HighlightState::Ready, None) => {
            Err(Problem::new(Code::ClipNotAvailable, format!("There was no picture to make a {what} of.")))
        }
        (HighlightState::Provisional | HighlightState::Final, _) => Err(Problem::new(
            Code::ClipNotReady,
            format!("The {what} is being made; ask again in some seconds, or wait for 'highlight.ready'."),
        )),
        (HighlightState::Failed | HighlightState::Deleted, _) => Err(Problem::new(
            Code::ClipNotAvailable,
            format!("The highlight is {}; there is no {what}.", stored.highlight.state.name()),
        )),
    }
}
