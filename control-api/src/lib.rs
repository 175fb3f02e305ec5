//! Tenants steer crest: the HTTP API.
//!
//! A request passes, from the outside in: log and metrics, problems for every error, panics caught,
//! a limit on time, the API key, and only then its route, the thing that the path names, and the body.

mod auth;
mod bare;
mod chat;
mod chat_source;
mod clock;
mod codes;
mod config;
mod deliveries;
mod docs;
mod downloads;
mod event_hub;
mod event_types;
mod events;
mod extract;
mod files;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod highlights;
mod markers;
mod names;
mod observe;
mod openapi;
mod organizations;
mod owned;
mod page;
mod problem;
mod range;
mod secret;
mod signals;
mod streams;
mod text;
mod timeline;
mod webhooks;

use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use crest_core::bus::SharedBus;
use crest_core::feeds::FeedControl;
use crest_core::objects::SharedObjects;
use crest_core::store::SharedStore;
use crest_core::view::Links;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use bare::{BareState, Render, bare, starting};
pub use codes::Code;
pub use config::ApiConfig;
use problem::Problem;
pub use secret::{api_key, webhook_secret};

/// What the API needs of the rest of crest.
#[derive(Clone)]
pub struct ApiState {
    /// What must not be forgotten.
    pub store: SharedStore,
    /// Where chat and marks go.
    pub bus: SharedBus,
    /// The running feeds.
    pub feeds: Arc<dyn FeedControl>,
    /// Whether YouTube's chats can be followed, as far as this process knows.
    pub youtube: bool,
    /// Where clips and thumbnails lie.
    pub objects: SharedObjects,
    /// How long a link to one of them is valid, where they lie elsewhere.
    pub link_validity: Duration,
    /// How the API is reached from outside.
    pub links: Links,
    /// Renders the measurements in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether the server has started and is not stopping.
    pub ready: Arc<AtomicBool>,
    /// Ends what would go on for ever, the event streams, when the server stops.
    pub shutdown: CancellationToken,
    /// The bounds.
    pub config: ApiConfig,
}

/// The state as handlers see it.
pub(crate) type Shared = Arc<ApiState>;

/// The whole API. Without handlers of its own: the caller binds and serves it.
pub fn router(state: ApiState) -> axum::Router {
    let downloads = downloads::Downloads::new(state.config.max_organization_downloads);
    let hub = event_hub::EventHub::new(state.store.clone(), &state.config);
    let state = Arc::new(state);
    let (routes, _) = described().split_for_parts();
    routes
        .fallback(nothing_here)
        .layer(Extension(hub))
        .layer(Extension(downloads))
        .layer(DefaultBodyLimit::max(state.config.max_body_bytes))
        .layer(from_fn_with_state(state.clone(), auth::require_key))
        .layer(from_fn_with_state(state.clone(), limit_time))
        .layer(CatchPanicLayer::custom(problem::after_panic))
        .layer(from_fn(problem::only_problems))
        .layer(from_fn(observe::observe))
        .with_state(state)
}

/// The API description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::complete(described().split_for_parts().1)
}

/// Every route, and what it says of itself.
fn described() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(streams::create, streams::list))
        .routes(routes!(streams::get))
        .routes(routes!(streams::stop))
        .routes(routes!(streams::rotate_key))
        .routes(routes!(highlights::list_of_stream))
        .routes(routes!(chat::send))
        .routes(routes!(markers::create))
        .routes(routes!(highlights::list))
        .routes(routes!(highlights::get))
        .routes(routes!(highlights::clip))
        .routes(routes!(highlights::thumbnail))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::get, webhooks::delete))
        .routes(routes!(deliveries::list))
        .routes(routes!(events::stream))
        .routes(routes!(event_types::list))
        .routes(routes!(signals::list))
        .routes(routes!(organizations::create))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(openapi::json))
        .routes(routes!(openapi::page))
}

async fn nothing_here() -> Problem {
    Problem::new(Code::PathNotFound, "/docs lists the paths there are.")
}

/// Gives up on an answer that does not begin in time. A file that is being sent may take longer.
async fn limit_time(State(api): State<Shared>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(api.config.request_timeout.0, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let limit = api.config.request_timeout.0;
            Problem::new(Code::Timeout, format!("There was no answer within {limit:?}; try again.")).into_response()
        }
    }
}
