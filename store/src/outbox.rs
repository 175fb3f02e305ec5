//! The outbox: an event becomes one delivery per endpoint that wants it, in the caller's transaction.

use sqlx::{Sqlite, Transaction};
use tracing::debug;

use crest_core::WebhookId;
use crest_core::event::Event;
use crest_core::webhook::DeliveryState;
use crest_core::{Error, Result};

use crate::row::{db, int, session};
use crate::webhooks;

/// Commits `event` with its deliveries as part of `tx`. `false`, and nothing changed, where an event
/// of that id is there already.
pub(crate) async fn insert_event(tx: &mut Transaction<'_, Sqlite>, event: &Event) -> Result<bool> {
    let data = serde_json::to_string(&event.data)
        .map_err(|e| Error::ours(format!("the data of event {} is no JSON: {e}", event.id)))?;
    let added = sqlx::query(
        "INSERT INTO events (id, organization_id, event_type, subject, revision, happened_at, stream_id, session, \
         score, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(event.id.as_str())
    .bind(event.organization_id.as_str())
    .bind(event.event_type.name())
    .bind(&event.subject)
    .bind(int(event.revision)?)
    .bind(event.timestamp.0)
    .bind(event.stream_id.as_ref().map(|id| id.as_str()))
    .bind(event.session.map(session))
    .bind(event.score)
    .bind(data)
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    if added.rows_affected() == 0 {
        debug!(event_id = %event.id, event_type = event.event_type.name(), "event is there already");
        return Ok(false);
    }
    for endpoint in webhooks::endpoints_of(tx, &event.organization_id).await? {
        if !endpoint.wants(event.event_type, event.score) {
            continue;
        }
        // The counter stands on the endpoint's row: sequences have no gap and survive deletions.
        let sequence: i64 = sqlx::query_scalar(
            "UPDATE endpoints SET last_sequence = last_sequence + 1 WHERE id = ? RETURNING last_sequence",
        )
        .bind(endpoint.id.as_str())
        .fetch_one(&mut **tx)
        .await
        .map_err(db)?;
        sqlx::query(
            "INSERT INTO deliveries (id, organization_id, event_id, event_type, endpoint_id, sequence, body, state, \
             attempts, next_attempt_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
        )
        .bind(WebhookId::derive(&event.id, &endpoint.id).as_str())
        .bind(event.organization_id.as_str())
        .bind(event.id.as_str())
        .bind(event.event_type.name())
        .bind(endpoint.id.as_str())
        .bind(sequence)
        .bind(event.body(u64::try_from(sequence).unwrap_or(0)))
        .bind(DeliveryState::Pending.name())
        .bind(event.timestamp.0)
        .bind(event.timestamp.0)
        .execute(&mut **tx)
        .await
        .map_err(db)?;
    }
    Ok(true)
}
