//! Bodies and query parameters, refused with problems that name the place of the fault.

use axum::Json;
use axum::body::HttpBody;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Shared;
use crate::codes::Code;
use crate::problem::Problem;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Problem> {
        match tokio::time::timeout(api.config.body_timeout.0, Json::<T>::from_request(request, api)).await {
            Ok(Ok(Json(value))) => Ok(Self(value)),
            Ok(Err(rejection)) => Err(body_problem(&rejection, api.config.max_body_bytes)),
            Err(_) => Err(Problem::new(
                Code::BodyTimeout,
                format!("A body has to arrive within {:?}; send less at a time.", api.config.body_timeout.0),
            )),
        }
    }
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
