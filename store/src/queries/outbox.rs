//! The outbox: an event becomes one delivery per endpoint that wants it, in the caller's transaction.

use sqlx::QueryBuilder;
use std::collections::BTreeSet;
use tracing::debug;

use crest_core::event::{Event, EventType};
use crest_core::trace::Trace;
use crest_core::webhook::{DeliveryState, Endpoint};
use crest_core::{Error, OrganizationId, WallTime, WebhookId};

use super::row::{get, get_trace, get_u64};
use super::{Db, SINGLE_WRITER, Tx, webhooks};
use crate::transaction::Outcome;
use crate::values::{from_json, int, session, trace as trace_text};

/// Makes the caller the only one who commits events of these tenants until its transaction is over.
/// Where it commits events of several, they are locked in one order, so that no two wait for each other;
/// and before anything else that others change along with events.
pub(crate) async fn lock_organizations(tx: &mut Tx, organizations: &[&OrganizationId]) -> Outcome<()> {
    let organizations: BTreeSet<&str> = organizations.iter().map(|id| id.as_str()).collect();
    if SINGLE_WRITER || organizations.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Db>::new("SELECT organization_id FROM organizations WHERE organization_id IN (");
    let mut list = query.separated(", ");
    for organization in organizations {
        list.push_bind(organization);
    }
    query.push(concat!(") ORDER BY organization_id", lock_row!()));
    query.build().fetch_all(&mut **tx).await?;
    Ok(())
}

/// Commits `event` with its deliveries as part of `tx`; `trace` is what it follows from where it does not
/// say so itself. `false`, and nothing changed, where an event of that id is there already.
pub(crate) async fn insert_event(tx: &mut Tx, event: &Event, trace: Option<Trace>) -> Outcome<bool> {
    let data = serde_json::to_string(&event.data)
        .map_err(|e| Error::ours(format!("the data of event {} is no JSON: {e}", event.id)))?;
    let trace = event.trace.or(trace);
    // The counter stands on the tenant's row: positions have no gap and survive pruning. Readers that
    // see one see all before it, for one writer at a time has this row.
    let last: Option<i64> =
        sqlx::query_scalar(concat!("SELECT last_position FROM organizations WHERE organization_id = $1", lock_row!()))
            .bind(event.organization_id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
    let organization = &event.organization_id;
    let last = last.ok_or_else(|| Error::not_found(format!("there is no organization {organization}")))?;
    let added = sqlx::query(
        "INSERT INTO events (id, organization_id, event_type, subject, revision, happened_at, stream_id, session, \
         score, data, trace, position) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(event.id.as_str())
    .bind(organization.as_str())
    .bind(event.event_type.name())
    .bind(&event.subject)
    .bind(int(event.revision)?)
    .bind(event.timestamp.0)
    .bind(event.stream_id.as_ref().map(|id| id.as_str()))
    .bind(event.session.map(session))
    .bind(event.score)
    .bind(data)
    .bind(trace_text(trace))
    .bind(last.saturating_add(1))
    .execute(&mut **tx)
    .await?;
    if added.rows_affected() == 0 {
        debug!(event_id = %event.id, event_type = event.event_type.name(), "event is there already");
        return Ok(false);
    }
    sqlx::query("UPDATE organizations SET last_position = last_position + 1 WHERE organization_id = $1")
        .bind(organization.as_str())
        .execute(&mut **tx)
        .await?;
    for endpoint in webhooks::endpoints_of(tx, organization).await? {
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
                insert_delivery(tx, &detected, detected.trace, &endpoint).await?;
            }
        }
        insert_delivery(tx, event, trace, &endpoint).await?;
    }
    Ok(true)
}

/// Whether an endpoint was sent an event about the same subject before.
async fn told_of(tx: &mut Tx, endpoint: &Endpoint, event: &Event) -> Outcome<bool> {
    let told = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM events e JOIN deliveries d ON d.event_id = e.id \
         WHERE e.organization_id = $1 AND e.subject = $2 AND d.endpoint_id = $3)",
    )
    .bind(event.organization_id.as_str())
    .bind(&event.subject)
    .bind(endpoint.id.as_str())
    .fetch_one(&mut **tx)
    .await?;
    Ok(told)
}

/// The detection of the highlight that an event is about, as it was committed.
async fn detection(tx: &mut Tx, event: &Event) -> Outcome<Option<Event>> {
    let row = sqlx::query(
        "SELECT revision, happened_at, data, trace FROM events \
         WHERE organization_id = $1 AND subject = $2 AND event_type = $3",
    )
    .bind(event.organization_id.as_str())
    .bind(&event.subject)
    .bind(EventType::HighlightDetected.name())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut detected = Event::new(
        event.organization_id.clone(),
        EventType::HighlightDetected,
        event.subject.clone(),
        get_u64(&row, "revision")?,
        WallTime(get(&row, "happened_at")?),
        from_json(get(&row, "data")?, |text| serde_json::from_str(text))?,
    );
    detected.trace = get_trace(&row, "trace")?;
    Ok(Some(detected))
}

async fn insert_delivery(tx: &mut Tx, event: &Event, trace: Option<Trace>, endpoint: &Endpoint) -> Outcome<()> {
    // The counter stands on the endpoint's row: sequences have no gap and survive deletions.
    let sequence: i64 = sqlx::query_scalar(
        "UPDATE endpoints SET last_sequence = last_sequence + 1 WHERE id = $1 RETURNING last_sequence",
    )
    .bind(endpoint.id.as_str())
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO deliveries (id, organization_id, event_id, event_type, endpoint_id, sequence, body, state, \
         attempts, next_attempt_at, trace, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $9)",
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
    .bind(trace_text(trace))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
