//! What is known of each request afterwards: a line in the log, a count and a duration. Never a key,
//! a query or a body.

use axum::extract::{MatchedPath, Request};
use axum::http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;

/// Counts and logs a request.
pub async fn observe(request: Request, next: Next) -> Response {
    let method = label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched".to_owned(), |m| m.as_str().to_owned());
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
    let polled = status == StatusCode::OK && matches!(route.as_str(), "/healthz" | "/readyz" | "/metrics");
    if polled {
        tracing::debug!(method, route, status = status.as_u16(), ms, "request");
    } else {
        tracing::info!(method, route, status = status.as_u16(), ms, "request");
    }

    // Answers carry secrets and states that change; what may be kept says so itself.
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
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
