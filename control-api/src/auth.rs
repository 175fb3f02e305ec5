//! Who is asking: API keys, before anything else is looked at.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use crest_core::store::Organization;

use crate::Shared;
use crate::codes::Code;
use crate::observe::Asker;
use crate::problem::Problem;

/// Longer than any key; a longer one is not looked up.
const MAX_KEY_BYTES: usize = 512;

/// Lets a request under `/v1` pass only with a key that belongs to an organization, and tells the
/// handlers which. Runs before the body is read and before it is known whether the path exists.
pub async fn require_key(State(api): State<Shared>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path != "/v1" && !path.starts_with("/v1/") {
        return next.run(request).await;
    }
    match authenticate(&api, request.headers()).await {
        Ok(organization) => {
            if let Some(Asker(asker)) = request.extensions().get() {
                let _ = asker.set(organization.id.clone());
            }
            request.extensions_mut().insert(organization);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn authenticate(api: &Shared, headers: &HeaderMap) -> Result<Organization, Problem> {
    let Some(key) = bearer(headers) else {
        return Err(refused("Send the header 'Authorization: Bearer <API key>'.", "Bearer realm=\"crest\""));
    };
    api.store
        .organization_of_key(key)
        .await?
        .ok_or_else(|| refused("The API key is not known here.", "Bearer realm=\"crest\", error=\"invalid_token\""))
}

/// The one bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, key) = value.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() && key.len() <= MAX_KEY_BYTES).then_some(key)
}

fn refused(detail: &str, challenge: &'static str) -> Problem {
    Problem::new(Code::Unauthorized, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

/// The organization that asks.
pub struct Tenant(pub Organization);

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let organization = parts.extensions.get::<Organization>().cloned();
        // Absent only if a handler outside /v1 asks: refuse rather than guess.
        organization.map(Self).ok_or_else(|| refused("This path needs an API key.", "Bearer realm=\"crest\""))
    }
}

/// The organization that asks, if it is the operator.
pub struct Operator(pub Organization);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Tenant(organization) = Tenant::from_request_parts(parts, state).await?;
        if organization.operator {
            Ok(Self(organization))
        } else {
            Err(Problem::new(Code::OperatorOnly, "Use the API key of the organization that this server started with."))
        }
    }
}
