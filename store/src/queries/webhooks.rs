//! Webhook endpoints, and the outbox as the delivering role sees it.

use async_trait::async_trait;
use sqlx::QueryBuilder;
use std::collections::HashMap;

use crest_core::event::EventType;
use crest_core::store::{Page, Paged, Webhooks};
use crest_core::webhook::{AttemptOutcome, Delivery, DeliveryOrder, DeliveryState, Endpoint, LeasedDelivery};
use crest_core::{EndpointId, Error, EventId, OrganizationId, Result, WallTime, WebhookId};

use super::row::{get, get_named, get_u32, get_u64, get_wall};
use super::{Db, DbRow, DbStore, Tx, leases, outbox};
use crate::page;
use crate::transaction::{Outcome, Whose};
use crate::values::{broken, can_be_kept, from_json};

pub(crate) fn endpoint(row: &DbRow) -> Outcome<Endpoint> {
    Ok(Endpoint {
        id: EndpointId::from_raw(get::<String>(row, "id")?),
        organization_id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
        url: get(row, "url")?,
        events: from_json(get(row, "events")?, |text| serde_json::from_str(text))?,
        min_score: get(row, "min_score")?,
        secret: get(row, "secret")?,
        created_at: get_wall(row, "created_at")?,
    })
}

pub(crate) fn delivery(row: &DbRow) -> Outcome<Delivery> {
    Ok(Delivery {
        id: WebhookId::from_raw(get::<String>(row, "id")?),
        event_id: EventId::from_raw(get::<String>(row, "event_id")?),
        event_type: get_named(row, "event_type", EventType::parse)?,
        endpoint_id: EndpointId::from_raw(get::<String>(row, "endpoint_id")?),
        organization_id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
        sequence: get_u64(row, "sequence")?,
        body: get(row, "body")?,
        state: get_named(row, "state", DeliveryState::parse)?,
        attempts: get_u32(row, "attempts")?,
        next_attempt_at: get_wall(row, "next_attempt_at")?,
        last_outcome: get(row, "last_outcome")?,
        created_at: get_wall(row, "created_at")?,
    })
}

/// A tenant's endpoints in a fixed order, as a transaction sees them.
pub(crate) async fn endpoints_of(tx: &mut Tx, organization: &OrganizationId) -> Outcome<Vec<Endpoint>> {
    let rows = sqlx::query("SELECT * FROM endpoints WHERE organization_id = $1 ORDER BY created_at, id")
        .bind(organization.as_str())
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(endpoint).collect()
}

#[async_trait]
impl Webhooks for DbStore {
    async fn create_endpoint(&self, endpoint: &Endpoint) -> Result<()> {
        let events = serde_json::to_string(&endpoint.events)
            .map_err(|e| Error::ours(format!("event types cannot be written: {e}")))?;
        let done = change!(self, "create_endpoint", Whose::Of(&endpoint.organization_id), |tx| {
            sqlx::query(
                "INSERT INTO endpoints (id, organization_id, url, events, min_score, secret, last_sequence, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, 0, $7)",
            )
            .bind(endpoint.id.as_str())
            .bind(endpoint.organization_id.as_str())
            .bind(&endpoint.url)
            .bind(&events)
            .bind(endpoint.min_score)
            .bind(&endpoint.secret)
            .bind(endpoint.created_at.0)
            .execute(&mut **tx)
            .await?;
            Ok(())
        });
        done.map_err(|error: Error| error.context("cannot add the webhook endpoint"))
    }

    async fn endpoint(&self, organization: &OrganizationId, id: &EndpointId) -> Result<Option<Endpoint>> {
        if !can_be_kept(id.as_str()) {
            return Ok(None);
        }
        look!(self, Whose::Of(organization), |tx| {
            let row = sqlx::query("SELECT * FROM endpoints WHERE id = $1 AND organization_id = $2")
                .bind(id.as_str())
                .bind(organization.as_str())
                .fetch_optional(&mut **tx)
                .await?;
            row.as_ref().map(endpoint).transpose()
        })
    }

    async fn endpoints(&self, organization: &OrganizationId, page: &Page) -> Result<Paged<Endpoint>> {
        let cursor = page::Cursor::of(page)?;
        let items = look!(self, Whose::Of(organization), |tx| {
            let rows = sqlx::query(
                "SELECT * FROM endpoints WHERE organization_id = $1 AND (created_at, id) < ($2, $3) \
                 ORDER BY created_at DESC, id DESC LIMIT $4",
            )
            .bind(organization.as_str())
            .bind(cursor.rank)
            .bind(&cursor.id)
            .bind(page::fetch(page))
            .fetch_all(&mut **tx)
            .await?;
            rows.iter().map(endpoint).collect::<Outcome<Vec<_>>>()
        })?;
        Ok(page::cut(items, page, |e| (e.created_at.0, e.id.to_string())))
    }

    async fn delete_endpoint(&self, organization: &OrganizationId, id: &EndpointId) -> Result<bool> {
        if !can_be_kept(id.as_str()) {
            return Ok(false);
        }
        change!(self, "delete_endpoint", Whose::Of(organization), |tx| {
            // Nobody commits an event to it meanwhile.
            outbox::lock_organizations(tx, &[organization]).await?;
            sqlx::query("DELETE FROM deliveries WHERE endpoint_id = $1 AND organization_id = $2")
                .bind(id.as_str())
                .bind(organization.as_str())
                .execute(&mut **tx)
                .await?;
            let gone = sqlx::query("DELETE FROM endpoints WHERE id = $1 AND organization_id = $2")
                .bind(id.as_str())
                .bind(organization.as_str())
                .execute(&mut **tx)
                .await?;
            Ok(gone.rows_affected() > 0)
        })
    }

    async fn deliveries(
        &self,
        organization: &OrganizationId,
        endpoint: &EndpointId,
        state: Option<DeliveryState>,
        page: &Page,
    ) -> Result<Paged<Delivery>> {
        let cursor = page::Cursor::of(page)?;
        if !can_be_kept(endpoint.as_str()) {
            return Ok(Paged { items: Vec::new(), next: None });
        }
        let items = look!(self, Whose::Of(organization), |tx| {
            let mut query = QueryBuilder::<Db>::new("SELECT * FROM deliveries WHERE organization_id = ");
            query.push_bind(organization.as_str()).push(" AND endpoint_id = ").push_bind(endpoint.as_str());
            if let Some(state) = state {
                query.push(" AND state = ").push_bind(state.name());
            }
            query.push(" AND sequence < ").push_bind(cursor.rank);
            query.push(" ORDER BY sequence DESC LIMIT ").push_bind(page::fetch(page));
            let rows = query.build().fetch_all(&mut **tx).await?;
            rows.iter().map(delivery).collect::<Outcome<Vec<_>>>()
        })?;
        Ok(page::cut(items, page, |d| (i64::try_from(d.sequence).unwrap_or(i64::MAX), d.id.to_string())))
    }

    async fn lease_deliveries(
        &self,
        now: WallTime,
        until: WallTime,
        limit: u32,
        order: &DeliveryOrder,
    ) -> Result<Vec<LeasedDelivery>> {
        change!(self, "lease_deliveries", Whose::All, |tx| {
            let due = leases::due(tx, now, limit, order).await?;
            if due.is_empty() {
                return Ok(Vec::new());
            }
            let mut taken = leases::take(tx, &due, now, until).await?;
            let mut targets = HashMap::new();
            let wanted = taken.values().map(|(delivery, _)| delivery.endpoint_id.as_str());
            for target in leases::targets(tx, wanted).await? {
                targets.insert(target.id.clone(), target);
            }
            let lease = |id: &String| {
                let (delivery, trace) = taken.remove(id)?;
                let endpoint = targets.get(&delivery.endpoint_id)?.clone();
                Some(LeasedDelivery { delivery, endpoint, leased_until: until, trace })
            };
            Ok(due.iter().filter_map(lease).collect())
        })
    }

    async fn finish_attempt(&self, leased: &LeasedDelivery, outcome: &AttemptOutcome, now: WallTime) -> Result<()> {
        let (state, next, said) = match outcome {
            AttemptOutcome::Delivered { status } => (DeliveryState::Delivered, now, status.to_string()),
            AttemptOutcome::Retry { at, reason } => (DeliveryState::Pending, *at, reason.clone()),
            AttemptOutcome::GaveUp { reason } => (DeliveryState::Failed, now, reason.clone()),
        };
        let delivery = &leased.delivery;
        change!(self, "finish_attempt", Whose::Of(&delivery.organization_id), |tx| {
            // Only while pending and leased as this worker has it: a late word from one whose lease ran out
            // takes nothing back, and one about a deleted endpoint is about nothing.
            sqlx::query(
                "UPDATE deliveries SET state = $1, next_attempt_at = $2, last_outcome = $3, attempts = attempts + 1, \
                 leased_until = NULL WHERE id = $4 AND state = 'pending' AND leased_until = $5",
            )
            .bind(state.name())
            .bind(next.0)
            .bind(&said)
            .bind(delivery.id.as_str())
            .bind(leased.leased_until.0)
            .execute(&mut **tx)
            .await?;
            Ok(())
        })
    }

    async fn outbox_depth(&self) -> Result<(u64, Option<WallTime>)> {
        look!(self, Whose::All, |tx| {
            let pending = "SELECT COUNT(*) AS depth, MIN(created_at) AS oldest FROM deliveries WHERE state = 'pending'";
            let row = sqlx::query(pending).fetch_one(&mut **tx).await?;
            let depth: i64 = get(&row, "depth")?;
            let oldest: Option<i64> = get(&row, "oldest")?;
            Ok((u64::try_from(depth).map_err(|_| broken("depth"))?, oldest.map(WallTime)))
        })
    }
}
