//! What a request is answered with that cannot be done: problem+json (RFC 9457), as the API has it.

use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The media type of problems.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Seconds after which a busy server may be asked again.
const AGAIN: HeaderValue = HeaderValue::from_static("2");

/// An answer that says what went wrong and what to do about it.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `code` is stable, for programs; `detail` is for people.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), headers: Vec::new() }
    }

    /// With a header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// No stream key, or an unknown one.
    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// The session is over, never was, or belongs to another stream key: the same for all.
    pub(super) fn no_such_session() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such session; it may be over.")
    }

    /// Another method than those allowed.
    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        let detail = format!("This address takes {allowed} only.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            .header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// What a client can do nothing about but try again.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).header(RETRY_AFTER, AGAIN)
    }

    /// Its name in metrics.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// What went wrong, for the log.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut response = (self.status, [(CONTENT_TYPE, PROBLEM_JSON)], body.to_string()).into_response();
        // The body may not have been read: the connection cannot carry another request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response.headers_mut().extend(self.headers);
        response
    }
}
