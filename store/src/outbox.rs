//! The outbox: an event becomes one delivery per endpoint that wants it, in the caller's transaction.

use sqlx::{Row, Sqlite, Transaction};
use tracing::debug;

use crest_core::event::{Event, EventType};
use crest_core::webhook::{DeliveryState, Endpoint};
use crest_core::{Error, Result};
use crest_core::{WallTime, WebhookId};

use crate::row::{db, int, session};
use crate::webhooks;

/// Commits `event` with its deliveries as part of `tx`. `false`, and nothing changed, where an event
/// of that id is there already.
pub(crate) async fn insert_event(tx: &mut Transaction<'_, Sqlite>, event: &Event) -> Result<bool> {
    let data = serde_json::to_string(&event.data)
        .map_err(|e| Error::ours(format!("the data of event {} is no JSON: {e}", event.id)))?;
    let added = sqlx::query(
        "INSERT INTO events (id, organization_id, event_type, subject, revision, happened_at, stream_id, session, \
         score, data, position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
         COALESCE((SELECT last_position FROM organizations WHERE organization_id = ?), 0) + 1) \
         ON CONFLICT (id) DO NOTHING",
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
    .bind(event.organization_id.as_str())
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    if added.rows_affected() == 0 {
        debug!(event_id = %event.id, event_type = event.event_type.name(), "event is there already");
        return Ok(false);
    }
    // The counter stands on the tenant's row: positions have no gap and survive pruning. Readers that
    // see one see all before it, for there is one writer.
    sqlx::query("UPDATE organizations SET last_position = last_position + 1 WHERE organization_id = ?")
        .bind(event.organization_id.as_str())
        .execute(&mut **tx)
        .await
        .map_err(db)?;
    for endpoint in webhooks::endpoints_of(tx, &event.organization_id).await? {
        let told = event.score.is_some() && told_of(tx, &endpoint, event).await?;
        // An endpoint that was told of a highlight is told the rest, whatever its score became.
        if !endpoint.wants(event.event_type, event.score.filter(|_| !told)) {
            continue;
        }
        if !told && event.score.is_some() && event.event_type != EventType::HighlightDetected {
            // The score passed the endpoint's limit only now; still, detection is told first.
            if let Some(detected) = detection(tx, event).await?
                && detected.timestamp > endpoint.created_at
                && endpoint.wants(EventType::HighlightDetected, None)
            {
                insert_delivery(tx, &detected, &endpoint).await?;
            }
        }
        insert_delivery(tx, event, &endpoint).await?;
    }
    Ok(true)
}

/// Whether an endpoint was sent an event about the same subject before.
async fn told_of(tx: &mut Transaction<'_, Sqlite>, endpoint: &Endpoint, event: &Event) -> Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM events e JOIN deliveries d ON d.event_id = e.id \
         WHERE e.organization_id = ? AND e.subject = ? AND d.endpoint_id = ?)",
    )
    .bind(event.organization_id.as_str())
    .bind(&event.subject)
    .bind(endpoint.id.as_str())
    .fetch_one(&mut **tx)
    .await
    .map_err(db)
}

/// The detection of the highlight that an event is about, as it was committed.
async fn detection(tx: &mut Transaction<'_, Sqlite>, event: &Event) -> Result<Option<Event>> {
    let row = sqlx::query(
        "SELECT revision, happened_at, data FROM events WHERE organization_id = ? AND subject = ? AND event_type = ?",
    )
    .bind(event.organization_id.as_str())
    .bind(&event.subject)
    .bind(EventType::HighlightDetected.name())
    .fetch_optional(&mut **tx)
    .await
    .map_err(db)?;
    let Some(row) = row else { return Ok(None) };
    let (revision, happened_at): (i64, i64) =
        (row.try_get("revision").map_err(db)?, row.try_get("happened_at").map_err(db)?);
    let data: String = row.try_get("data").map_err(db)?;
    let data = serde_json::from_str(&data)
        .map_err(|e| Error::ours(format!("the data of the detection of {} is no JSON: {e}", event.subject)))?;
    let detected = Event::new(
        event.organization_id.clone(),
        EventType::HighlightDetected,
        event.subject.clone(),
        u64::try_from(revision).unwrap_or(0),
        WallTime(happened_at),
        data,
    );
    Ok(Some(detected))
}

async fn insert_delivery(tx: &mut Transaction<'_, Sqlite>, event: &Event, endpoint: &Endpoint) -> Result<()> {
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
    Ok(())
}
