//! The API description: what the handlers say of themselves, and what holds for all of them.

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use std::sync::OnceLock;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use crate::docs;
use crate::names::HighlightStateName;
use crate::problem::{PROBLEM_JSON, ProblemBody};

/// The groups that operations are shown in.
pub mod tag {
    /// Streams and what is sent into them.
    pub const STREAMS: &str = "streams";
    /// Highlights and their clips.
    pub const HIGHLIGHTS: &str = "highlights";
    /// Webhook endpoints.
    pub const WEBHOOKS: &str = "webhooks";
    /// What there is to choose from.
    pub const CATALOGUES: &str = "catalogues";
    /// Tenants.
    pub const ORGANIZATIONS: &str = "organizations";
    /// For those who run the server.
    pub const SERVER: &str = "server";
}

const SCHEME: &str = "api_key";

/// What the description says of the whole API.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "crest",
        description = "Finds highlights in live broadcasts. Times are RFC 3339 UTC beside media seconds; lists are \
            parts with a cursor; every error is an RFC 9457 problem with a stable `code`."
    ),
    servers((url = "/", description = "This server")),
    tags(
        (name = "streams", description = "Broadcasts, and what is sent into them beside the media"),
        (name = "highlights", description = "Moments that were found, and their clips"),
        (name = "webhooks", description = "Where events are sent to"),
        (name = "catalogues", description = "Signals and event types"),
        (name = "organizations", description = "Tenants, for the operator"),
        (name = "server", description = "Health, metrics and this description; no key is needed"),
    ),
    components(schemas(ProblemBody, HighlightStateName))
)]
pub struct Description;

/// Adds what holds for every operation: who may call it, and the problems it may answer with.
pub fn complete(mut description: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An organization's API key, `Authorization: Bearer crest_sk_...`"))
        .build();
    let components = description.components.get_or_insert_default();
    components.security_schemes.insert(SCHEME.into(), RefOr::T(SecurityScheme::Http(bearer)));
    for (path, item) in &mut description.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            finish(path, operation);
        }
    }
    description
}

fn finish(path: &str, operation: &mut Operation) {
    let keyed = path.starts_with("/v1/");
    operation.security =
        Some(if keyed { vec![SecurityRequirement::new(SCHEME, Vec::<String>::new())] } else { Vec::new() });
    let mut problems = vec![("500", "`internal`: a defect of crest")];
    if keyed {
        problems.push(("401", "`unauthorized`: no API key, or not a known one"));
        problems.push(("503", "`unavailable` or `timeout`: the same request may succeed in a moment"));
    }
    if path.contains("{id}") {
        problems.push(("404", "`not_found`: there is none, or it belongs to somebody else"));
    }
    let in_query = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => matches!(parameter.parameter_in, ParameterIn::Query),
        RefOr::Ref(_) => false,
    };
    if operation.parameters.iter().flatten().any(in_query) {
        problems.push(("400", "`invalid_parameter` or `invalid_cursor`"));
    }
    if operation.request_body.is_some() {
        problems.push(("400", "`invalid_json`: the body is not JSON"));
        problems.push(("408", "`body_timeout`: the body did not arrive in time"));
        problems.push(("413", "`body_too_large`"));
        problems.push(("415", "`unsupported_media_type`: the body is not sent as JSON"));
        problems.push(("422", "The body is JSON, but not what is possible here; `code` and `detail` say why"));
    }
    for (status, text) in problems {
        operation.responses.responses.entry(status.into()).or_insert_with(|| RefOr::T(problem(text)));
    }
}

fn problem(text: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(text).content(PROBLEM_JSON, content).build()
}

/// This description
#[utoipa::path(get, path = "/openapi.json", operation_id = "getDescription", tag = tag::SERVER,
    responses((status = 200, body = Object, content_type = "application/json", description = "OpenAPI 3.1")))]
pub async fn json() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| serde_json::to_string(&crate::openapi()).unwrap_or_default());
    ([(CONTENT_TYPE, "application/json")], text.as_str())
}

/// This description as a page
#[utoipa::path(get, path = "/docs", operation_id = "getDocumentation", tag = tag::SERVER,
    responses((status = 200, body = String, content_type = "text/html", description = "A page without scripts")))]
pub async fn page() -> impl IntoResponse {
    static PAGE: OnceLock<String> = OnceLock::new();
    let page = PAGE.get_or_init(|| docs::render(&serde_json::to_value(crate::openapi()).unwrap_or_default()));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    ([(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, policy)], page.as_str())
}
