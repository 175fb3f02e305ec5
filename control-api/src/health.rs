//! For those who watch over the server: alive, ready, measured. No key is needed.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use crest_core::space::Room;
use crest_core::store::SharedStore;
use crest_core::units::Span;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use utoipa::ToSchema;

use crate::Shared;
use crate::codes::Code;
use crate::openapi::tag;
use crate::problem::{Problem, ProblemBody};

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    status: &'static str,
}

/// Whether the server can do its work, and how well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`.
    status: &'static str,
    /// Room on the disk. `ample`; `short`: media is not stored and new streams are refused, running ones
    /// are still decided on; `exhausted`: clips wait too.
    #[schema(example = "ample")]
    storage: &'static str,
}

/// Whether the process runs
#[utoipa::path(get, path = "/healthz", operation_id = "getHealth", tag = tag::SERVER,
    responses((status = 200, body = Health, description = "It runs")))]
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the server can do its work
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness", tag = tag::SERVER,
    responses(
        (status = 200, body = Readiness, description = "It can"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json",
            description = "`not_ready`: it is starting or stopping, or its database does not answer"),
    ))]
pub async fn readyz(State(api): State<Shared>) -> Result<Json<Readiness>, Problem> {
    readiness(&api.ready, &api.store, api.config.ready_timeout, api.feeds.room()).await
}

/// Whether a process can do its work: it has started, and its database answers. A bus that is away is no
/// reason: what it would take is kept meanwhile.
pub(crate) async fn readiness(
    ready: &AtomicBool,
    store: &SharedStore,
    limit: Span,
    room: Room,
) -> Result<Json<Readiness>, Problem> {
    if !ready.load(Ordering::Acquire) {
        return Err(Problem::new(Code::NotReady, "The server is starting or stopping."));
    }
    match tokio::time::timeout(limit.0, store.ping()).await {
        Ok(Ok(())) => Ok(Json(Readiness { status: "ready", storage: room.name() })),
        Ok(Err(e)) => {
            tracing::warn!(error = %e, "the database does not answer");
            Err(Problem::new(Code::NotReady, "The database does not answer."))
        }
        Err(_) => Err(Problem::new(Code::NotReady, "The database does not answer in time.")),
    }
}

/// Measurements, as Prometheus reads them
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = tag::SERVER,
    responses((status = 200, body = String, content_type = "text/plain", description = "Prometheus text format")))]
pub async fn metrics(State(api): State<Shared>) -> impl IntoResponse {
    prometheus((api.metrics)())
}

pub(crate) fn prometheus(text: String) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
