//! Problems as RFC 9457 has them: what every error answers with.

use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use crest_core::{Error, Fault};
use serde::Serialize;
use std::any::Any;

use crate::codes::Code;

/// The media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An answer that says what went wrong and what to do about it.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of that kind, with what is particular to this one.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), headers: Vec::new() }
    }
    /// The answer for what does not exist and for what belongs to somebody else: the same for both.
    pub fn no_such(what: &str) -> Self {
        Self::new(Code::NotFound, format!("There is no such {what}."))
    }
    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// The body of a problem.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Where this kind of problem is described, relative to the server.
    #[serde(rename = "type")]
    #[schema(example = "/docs#problem-not_found")]
    pub kind: String,
    /// What kind of problem it is, for people.
    pub title: &'static str,
    /// The status again.
    pub status: u16,
    /// What happened this time, and what to do about it.
    pub detail: String,
    /// What kind of problem it is, for programs. New codes may join.
    #[schema(example = "not_found")]
    pub code: &'static str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: format!("/docs#problem-{}", self.code.name()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: self.detail,
            code: self.code.name(),
        };
        let mut response =
            (self.code.status(), [(CONTENT_TYPE, PROBLEM_JSON)], serde_json::to_vec(&body).unwrap_or_default())
                .into_response();
        if self.code.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        // These leave a body unread: the connection cannot carry another request.
        let unread = [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::REQUEST_TIMEOUT, StatusCode::UNAUTHORIZED];
        if unread.contains(&self.code.status()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<Error> for Problem {
    /// What went wrong inside or behind crest is logged, not shown.
    fn from(error: Error) -> Self {
        match error.fault {
            Fault::User => Self::new(Code::InvalidRequest, error.message),
            Fault::NotFound => Self::new(Code::NotFound, error.message),
            Fault::Conflict => Self::new(Code::Conflict, error.message),
            Fault::Outside | Fault::Full => {
                tracing::warn!(error = %error, "something that the API needs does not answer");
                Self::new(Code::Unavailable, "Nothing is wrong with the request; send it again in a moment.")
            }
            Fault::Ours => {
                tracing::error!(error = %error, "the API failed");
                Self::new(Code::Internal, "This is a defect of crest; its log says more.")
            }
        }
    }
}

/// Turns the errors that the framework answers on its own into problems, and keeps their headers
/// (`Allow` among them).
pub async fn only_problems(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_problem(response.headers()) {
        return response;
    }
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::new(Code::PathNotFound, "/docs lists the paths there are."),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            Code::MethodNotAllowed,
            format!("{method} is not known here; the Allow header lists the methods that are."),
        ),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::BodyTooLarge, "Send less at a time."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Problem::new(Code::UnsupportedMediaType, "Send the header 'Content-Type: application/json'.")
        }
        status if status.is_client_error() => Problem::new(Code::BadRequest, "/docs describes what is expected."),
        _ => Problem::new(Code::Internal, "This is a defect of crest; its log says more."),
    };
    let mut headers = response.headers().clone();
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_TYPE);
    let mut answer = problem.into_response();
    answer.headers_mut().extend(headers);
    answer
}

fn is_problem(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON)
}

/// The answer after a panic: the reason goes to the log alone.
pub fn after_panic(reason: Box<dyn Any + Send + 'static>) -> Response {
    let text = reason
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| reason.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = text, "a request handler panicked");
    Problem::new(Code::Internal, "This is a defect of crest; its log says more.").into_response()
}
