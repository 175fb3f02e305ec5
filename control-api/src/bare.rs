//! What a process answers that does not serve the API, or not yet: how it is, and nothing else.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use crest_core::space::Space;
use crest_core::store::SharedStore;
use crest_core::units::Span;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tower_http::catch_panic::CatchPanicLayer;

use crate::codes::Code;
use crate::problem::{self, Problem};
use crate::{health, observe};

/// Renders the measurements in Prometheus' text format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// What a process with other roles than the API needs to say how it is.
#[derive(Clone)]
pub struct BareState {
    /// Its database.
    pub store: SharedStore,
    /// How much room there is for what it stores.
    pub space: Space,
    /// Whether it has started and is not stopping.
    pub ready: Arc<AtomicBool>,
    /// How long the database may take to answer.
    pub ready_timeout: Span,
    /// The measurements.
    pub metrics: Render,
    /// Its roles, as `--roles` takes them.
    pub roles: String,
}

/// Health, readiness and metrics of a process without the role `api`.
pub fn bare(state: BareState) -> Router {
    let elsewhere = format!(
        "This process runs with --roles {}: it answers /healthz, /readyz and /metrics. The API is served by those \
         with the role 'api'.",
        state.roles
    );
    let nothing_here = move || std::future::ready(Problem::new(Code::PathNotFound, elsewhere.clone()));
    let metrics = Arc::clone(&state.metrics);
    let ready = move || {
        let state = state.clone();
        async move { health::readiness(&state.ready, &state.store, state.ready_timeout, state.space.room()).await }
    };
    watched(metrics).route("/readyz", get(ready)).fallback(nothing_here).layered()
}

/// What every process answers while it starts: `waiting` says what for.
pub fn starting(waiting: impl Fn() -> String + Clone + Send + Sync + 'static, metrics: Render) -> Router {
    let not_ready = move || std::future::ready(Problem::new(Code::NotReady, waiting()));
    watched(metrics).fallback(not_ready).layered()
}

fn watched(metrics: Render) -> Router {
    let metrics =
        move || -> std::future::Ready<Response> { std::future::ready(health::prometheus(metrics()).into_response()) };
    Router::new().route("/healthz", get(health::healthz)).route("/metrics", get(metrics))
}

/// The layers that the API has as well.
trait Layered {
    fn layered(self) -> Self;
}

impl Layered for Router {
    fn layered(self) -> Self {
        self.layer(CatchPanicLayer::custom(problem::after_panic))
            .layer(axum::middleware::from_fn(problem::only_problems))
            .layer(axum::middleware::from_fn(observe::observe))
    }
}
