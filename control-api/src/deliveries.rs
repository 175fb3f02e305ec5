//! What was sent to a webhook endpoint, and what became of it.

use axum::Json;
use axum::extract::State;
use crest_core::event::EventType;
use crest_core::webhook::{Delivery, DeliveryState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Shared;
use crate::extract::Params;
use crate::names;
use crate::openapi::tag;
use crate::owned::OwnEndpoint;
use crate::page::{List, Pager};
use crate::problem::Problem;

const DELIVERIES: Pager = Pager("deliveries");

/// One event on its way to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    /// The `webhook-id` header, the same on each attempt.
    id: String,
    /// The event.
    event_id: String,
    /// Its type.
    #[schema(value_type = names::EventTypeName)]
    event_type: EventType,
    /// Counts the endpoint's events from 1 without a gap.
    sequence: u64,
    /// Where it stands.
    #[schema(value_type = names::DeliveryStateName)]
    state: DeliveryState,
    /// Attempts so far.
    attempts: u32,
    /// When the next attempt is due, RFC 3339 UTC; null where there is none.
    next_attempt_at: Option<String>,
    /// What the last attempt met.
    last_outcome: Option<String>,
    /// RFC 3339 UTC.
    created_at: String,
}

impl From<&Delivery> for DeliveryView {
    fn from(delivery: &Delivery) -> Self {
        let pending = delivery.state == DeliveryState::Pending;
        Self {
            id: delivery.id.to_string(),
            event_id: delivery.event_id.to_string(),
            event_type: delivery.event_type,
            sequence: delivery.sequence,
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: pending.then(|| delivery.next_attempt_at.rfc3339()),
            last_outcome: delivery.last_outcome.clone(),
            created_at: delivery.created_at.rfc3339(),
        }
    }
}

/// Which deliveries are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeliveryParams {
    /// In this state only.
    #[param(value_type = Option<names::DeliveryStateName>)]
    state: Option<DeliveryState>,
    /// Items in this part, from 1 to the server's maximum (200 unless configured); 50 without it.
    #[param(minimum = 1)]
    limit: Option<u32>,
    /// `next` of the part before.
    cursor: Option<String>,
}

/// List what was sent to an endpoint, newest first
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", operation_id = "listDeliveries", tag = tag::WEBHOOKS,
    params(("id" = String, Path, description = "Id of the endpoint"), DeliveryParams),
    responses((status = 200, body = List<DeliveryView>, description = "A part of the list")))]
pub async fn list(
    State(api): State<Shared>,
    OwnEndpoint(endpoint): OwnEndpoint,
    Params(params): Params<DeliveryParams>,
) -> Result<Json<List<DeliveryView>>, Problem> {
    let page = DELIVERIES.page(params.limit, params.cursor.as_deref(), api.config.max_page)?;
    let paged = api.store.deliveries(&endpoint.organization_id, &endpoint.id, params.state, &page).await;
    DELIVERIES.answer(&page, paged, |delivery| DeliveryView::from(delivery))
}
