//! The catalogue of signals.

use axum::Json;
use crest_core::signal::{Signal, SignalInfo};
use serde::Serialize;
use utoipa::ToSchema;

use crate::openapi::tag;
use crate::page::List;

/// A signal.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignalView {
    /// Its name: normalised against the stream's own past, 0..1.
    #[schema(example = "audio_loudness")]
    name: &'static str,
    /// Its name in its own unit.
    #[schema(example = "audio_loudness_raw")]
    raw_name: String,
    /// What it is measured on: `audio`, `video` or `chat`.
    modality: &'static str,
    /// The unit of the raw value.
    unit: &'static str,
    /// What it measures.
    description: &'static str,
}

impl From<&SignalInfo> for SignalView {
    fn from(info: &SignalInfo) -> Self {
        Self {
            name: info.name,
            raw_name: format!("{}_raw", info.name),
            modality: info.modality.name(),
            unit: info.unit,
            description: info.description,
        }
    }
}

/// List the signals that highlights are made of
#[utoipa::path(get, path = "/v1/signals", operation_id = "listSignals", tag = tag::CATALOGUES,
    responses((status = 200, body = List<SignalView>, description = "All signals")))]
pub async fn list() -> Json<List<SignalView>> {
    Json(List { data: Signal::CATALOGUE.iter().map(SignalView::from).collect(), next: None })
}
