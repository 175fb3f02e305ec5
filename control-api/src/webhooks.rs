//! Webhook endpoints: create, list, show, delete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use crest_core::EndpointId;
use crest_core::event::EventType;
use crest_core::store::Page;
use crest_core::webhook::Endpoint;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::Shared;
use crate::auth::Tenant;
use crate::clock::now;
use crate::codes::Code;
use crate::extract::{Body, Params};
use crate::names;
use crate::openapi::tag;
use crate::owned::OwnEndpoint;
use crate::page::{List, ListParams, Pager};
use crate::problem::{Problem, ProblemBody};
use crate::secret;

const WEBHOOKS: Pager = Pager("webhooks");
const MAX_URL_BYTES: usize = 2048;

/// An endpoint to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// Where events are sent to, http or https.
    #[schema(format = "uri", example = "https://example.com/hooks/crest")]
    url: String,
    /// The types that are wanted; without it, or empty, all.
    #[schema(value_type = Option<Vec<names::EventTypeName>>)]
    events: Option<Vec<String>>,
    /// Highlights that score below are not told, 0..1.
    #[schema(minimum = 0, maximum = 1)]
    min_score: Option<f64>,
}

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookView {
    /// Its id.
    id: String,
    /// Where events are sent to.
    url: String,
    /// The types that are wanted; empty means all.
    #[schema(value_type = Vec<names::EventTypeName>)]
    events: Vec<EventType>,
    /// Highlights that score below are not told.
    min_score: Option<f64>,
    /// What events are signed with (Standard Webhooks). Shown when the endpoint is created, and
    /// never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// RFC 3339 UTC.
    created_at: String,
}

impl WebhookView {
    fn without_secret(endpoint: &Endpoint) -> Self {
        Self {
            id: endpoint.id.to_string(),
            url: endpoint.url.clone(),
            events: endpoint.events.clone(),
            min_score: endpoint.min_score,
            secret: None,
            created_at: endpoint.created_at.rfc3339(),
        }
    }
}

/// Create a webhook endpoint
///
/// It receives what happens from now on. The answer is the only one that shows the secret.
#[utoipa::path(post, path = "/v1/webhooks", operation_id = "createWebhook", tag = tag::WEBHOOKS,
    request_body = NewWebhook,
    responses(
        (status = 201, body = WebhookView, description = "The endpoint, with its secret",
            headers(("Location" = String, description = "Path of the endpoint"))),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`limit_reached`"),
    ))]
pub async fn create(
    State(api): State<Shared>,
    Tenant(organization): Tenant,
    Body(new): Body<NewWebhook>,
) -> Result<impl IntoResponse, Problem> {
    let url = address(&new.url)?;
    let events = event_types(new.events.unwrap_or_default())?;
    if new.min_score.is_some_and(|score| !(0.0..=1.0).contains(&score)) {
        return Err(Problem::new(Code::InvalidRequest, "min_score: must be from 0 to 1."));
    }
    let max = api.config.max_webhooks;
    let present = api.store.endpoints(&organization.id, &Page { after: None, limit: max }).await?;
    if present.items.len() >= max as usize {
        return Err(Problem::new(Code::LimitReached, format!("Delete one first; an organization has at most {max}.")));
    }
    let endpoint = Endpoint {
        id: EndpointId::draw(),
        organization_id: organization.id,
        url,
        events,
        min_score: new.min_score,
        secret: secret::webhook_secret()?,
        created_at: now(),
    };
    api.store.create_endpoint(&endpoint).await?;
    let view = WebhookView { secret: Some(endpoint.secret.clone()), ..WebhookView::without_secret(&endpoint) };
    Ok((StatusCode::CREATED, [(LOCATION, format!("/v1/webhooks/{}", endpoint.id))], Json(view)))
}

/// List webhook endpoints, newest first
#[utoipa::path(get, path = "/v1/webhooks", operation_id = "listWebhooks", tag = tag::WEBHOOKS, params(ListParams),
    responses((status = 200, body = List<WebhookView>, description = "A part of the list, without secrets")))]
pub async fn list(
    State(api): State<Shared>,
    Tenant(organization): Tenant,
    Params(params): Params<ListParams>,
) -> Result<Json<List<WebhookView>>, Problem> {
    let page = WEBHOOKS.page(params.limit, params.cursor.as_deref(), api.config.max_page)?;
    let paged = api.store.endpoints(&organization.id, &page).await;
    WEBHOOKS.answer(&page, paged, WebhookView::without_secret)
}

/// Show a webhook endpoint
#[utoipa::path(get, path = "/v1/webhooks/{id}", operation_id = "getWebhook", tag = tag::WEBHOOKS,
    params(("id" = String, Path, description = "Id of the endpoint")),
    responses((status = 200, body = WebhookView, description = "The endpoint, without its secret")))]
pub async fn get(OwnEndpoint(endpoint): OwnEndpoint) -> Json<WebhookView> {
    Json(WebhookView::without_secret(&endpoint))
}

/// Delete a webhook endpoint
///
/// What was still to be sent to it is not sent any more.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", operation_id = "deleteWebhook", tag = tag::WEBHOOKS,
    params(("id" = String, Path, description = "Id of the endpoint")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete(State(api): State<Shared>, OwnEndpoint(endpoint): OwnEndpoint) -> Result<StatusCode, Problem> {
    if api.store.delete_endpoint(&endpoint.organization_id, &endpoint.id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::no_such("webhook"))
    }
}

/// The address as it will be used. Whether it may be reached is decided when it is resolved.
fn address(text: &str) -> Result<String, Problem> {
    let wrong = |why: String| Problem::new(Code::InvalidUrl, format!("url: {why}."));
    if text.len() > MAX_URL_BYTES {
        return Err(wrong(format!("has more than {MAX_URL_BYTES} bytes")));
    }
    let url = Url::parse(text).map_err(|e| wrong(format!("is not an absolute address ({e})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("has the scheme '{}'; http and https are possible", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("names no host".into()));
    }
    Ok(url.into())
}

fn event_types(names: Vec<String>) -> Result<Vec<EventType>, Problem> {
    let mut types = Vec::with_capacity(EventType::ALL.len());
    for (index, name) in names.iter().enumerate() {
        let Some(event_type) = EventType::parse(name) else {
            let known = EventType::ALL.map(EventType::name).join(", ");
            return Err(Problem::new(Code::UnknownEventType, format!("events[{index}]: the types are {known}.")));
        };
        if !types.contains(&event_type) {
            types.push(event_type);
        }
    }
    Ok(types)
}
