//! Bodies and query parameters, refused with problems that name the place of the fault.

use axum::Json;
use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use crest_core::trace::Trace;
use serde::de::DeserializeOwned;
use std::convert::Infallible;

use crate::Shared;
use crate::codes::Code;
use crate::problem::Problem;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Problem> {
        match tokio::time::timeout(api.config.body_timeout.0, read::<T>(request, api)).await {
            Ok(read) => read.map(Self),
            Err(_) => Err(Problem::new(
                Code::BodyTimeout,
                format!("A body has to arrive within {:?}; send less at a time.", api.config.body_timeout.0),
            )),
        }
    }
}

/// The body as JSON. The derived readers would take an array for an object; this API has no arrays.
async fn read<T: DeserializeOwned>(request: Request, api: &Shared) -> Result<T, Problem> {
    let refuse = |rejection: JsonRejection| body_problem(&rejection, api.config.max_body_bytes);
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let bytes = Bytes::from_request(whole, api).await.map_err(|e| refuse(e.into()))?;
    let is_array = bytes.trim_ascii_start().starts_with(b"[");
    let Json(value) = Json::<T>::from_request(Request::from_parts(parts, bytes.into()), api).await.map_err(refuse)?;
    if is_array {
        return Err(Problem::new(Code::InvalidBody, "The body has to be a JSON object."));
    }
    Ok(value)
}

/// A JSON body that may be left out.
pub struct OptionalBody<T>(pub Option<T>);

impl<T: DeserializeOwned> FromRequest<Shared> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self(None));
        }
        Body::<Option<T>>::from_request(request, api).await.map(|Body(value)| Self(value))
    }
}

fn body_problem(rejection: &JsonRejection, max_bytes: usize) -> Problem {
    let text = rejection.body_text();
    // The framework's preamble says nothing that the code does not.
    let reason = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason);
    match rejection {
        JsonRejection::JsonDataError(_) => Problem::new(Code::InvalidBody, reason),
        JsonRejection::JsonSyntaxError(_) => Problem::new(Code::InvalidJson, reason),
        JsonRejection::MissingJsonContentType(_) => {
            Problem::new(Code::UnsupportedMediaType, "Send the header 'Content-Type: application/json'.")
        }
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::BodyTooLarge, format!("A body has at most {max_bytes} bytes; send less at a time."))
        }
        _ => Problem::new(Code::BadRequest, "The body broke off; send the request again."),
    }
}

/// Query parameters.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let reason = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason);
                Err(Problem::new(Code::InvalidParameter, reason))
            }
        }
    }
}

/// The trace that a request is part of: the caller's, where it sends a `traceparent`, else a new one.
pub struct Traced(pub Trace);

impl<S: Send + Sync> FromRequestParts<S> for Traced {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let sent = parts.headers.get("traceparent").and_then(|value| value.to_str().ok()?.parse::<Trace>().ok());
        Ok(Self(sent.map_or_else(Trace::begin, Trace::step)))
    }
}
