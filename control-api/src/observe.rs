//! What is known of each request afterwards: a line in the log, a count and a duration. Never a key,
//! a query or a body.

use axum::extract::{MatchedPath, Request};
use axum::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use crest_core::OrganizationId;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A client's own name for its request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer names are not repeated, in bytes.
const MAX_REQUEST_ID: usize = 64;
/// More of a path is not logged, in bytes.
const MAX_PATH: usize = 200;

/// Who asked, once that is known; for the line of the request.
#[derive(Clone, Default)]
pub struct Asker(pub Arc<OnceLock<OrganizationId>>);

/// Counts and logs a request.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let method = label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched".to_owned(), |m| m.as_str().to_owned());
    let path: String = request.uri().path().chars().take(MAX_PATH).collect();
    let request_id = request_id(request.headers());
    let asker = Asker::default();
    request.extensions_mut().insert(asker.clone());
    let started = Instant::now();
    let mut response = next.run(request).await;
    let elapsed = started.elapsed();
    let status = response.status();

    metrics::counter!(
        "crest_http_requests_total",
        "method" => method,
        "route" => route.clone(),
        "status" => status.as_u16().to_string(),
    )
    .increment(1);
    metrics::histogram!("crest_http_request_duration_seconds", "method" => method, "route" => route.clone())
        .record(elapsed.as_secs_f64());

    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let status = status.as_u16();
    let organization_id = asker.0.get().map(OrganizationId::as_str);
    // What somebody asks for that has no such thing is not worth a name.
    let named = if matches!(status, 401 | 404) { Named::default() } else { named(&route, &path) };
    let request_id_text = request_id.as_ref().and_then(|id| id.to_str().ok());
    let polled = status == StatusCode::OK && matches!(route.as_str(), "/healthz" | "/readyz" | "/metrics");
    // The level of an event is fixed where it stands: twice the same.
    macro_rules! say {
        ($level:ident) => {
            tracing::$level!(
                method,
                route,
                path,
                status,
                ms,
                organization_id,
                stream_id = named.stream,
                highlight_id = named.highlight,
                endpoint_id = named.endpoint,
                request_id = request_id_text,
                "request"
            )
        };
    }
    if polled {
        say!(debug)
    } else {
        say!(info)
    }

    // Answers carry secrets and states that change; what may be kept says so itself.
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(id) = request_id {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// The request's own name, if it is a short one of letters, digits and `-_.`.
fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let fits = (1..=MAX_REQUEST_ID).contains(&id.len());
    let plain = id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    (fits && plain).then(|| id.clone())
}

/// The things that a path names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named<'p> {
    stream: Option<&'p str>,
    highlight: Option<&'p str>,
    endpoint: Option<&'p str>,
}

fn named<'p>(route: &str, path: &'p str) -> Named<'p> {
    let mut named = Named::default();
    let mut before = "";
    for (part, value) in route.split('/').zip(path.split('/')) {
        if part.starts_with('{') {
            match before {
                "streams" => named.stream = Some(value),
                "highlights" => named.highlight = Some(value),
                "webhooks" => named.endpoint = Some(value),
                _ => {}
            }
        }
        before = part;
    }
    named
}

/// A method as a label: a client's inventions must not become series.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_what_its_route_says() {
        let stream = named("/v1/streams/{id}/chat", "/v1/streams/s1/chat");
        assert_eq!(stream, Named { stream: Some("s1"), ..Named::default() });
        let endpoint = named("/v1/webhooks/{id}/deliveries", "/v1/webhooks/e1/deliveries");
        assert_eq!(endpoint, Named { endpoint: Some("e1"), ..Named::default() });
        assert_eq!(named("/v1/highlights", "/v1/highlights"), Named::default());
        assert_eq!(named("unmatched", "/v1/streams/s1"), Named::default());
    }

    #[test]
    fn only_short_and_plain_request_ids_are_repeated() {
        let of = |value: &'static str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(value))]);
            request_id(&headers).is_some()
        };
        assert!(of("0198c2ab-77_x.y"));
        for bad in ["", "a b", "a\"b", "a/b", "{x}"] {
            assert!(!of(bad), "{bad}");
        }
        let long =
            HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(&[b'a'; 65]).unwrap_or(HeaderValue::from(0)))]);
        assert!(request_id(&long).is_none());
    }
}
