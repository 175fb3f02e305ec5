//! Webhook endpoints, and the outbox as the delivering role sees it.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, Transaction};

use crest_core::event::EventType;
use crest_core::store::{Page, Paged, Webhooks};
use crest_core::webhook::{AttemptOutcome, Delivery, DeliveryOrder, DeliveryState, Endpoint, LeasedDelivery};
use crest_core::{EndpointId, Error, EventId, OrganizationId, Result, WallTime, WebhookId};

use crate::row::{broken, db, from_json, get, get_named, get_u32, get_u64, get_wall};
use crate::{SqliteStore, page};

fn endpoint(row: &SqliteRow) -> Result<Endpoint> {
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

fn delivery(row: &SqliteRow) -> Result<Delivery> {
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
pub(crate) async fn endpoints_of(
    tx: &mut Transaction<'_, Sqlite>,
    organization: &OrganizationId,
) -> Result<Vec<Endpoint>> {
    let rows = sqlx::query("SELECT * FROM endpoints WHERE organization_id = ? ORDER BY created_at, id")
        .bind(organization.as_str())
        .fetch_all(&mut **tx)
        .await
        .map_err(db)?;
    rows.iter().map(endpoint).collect()
}

#[async_trait]
impl Webhooks for SqliteStore {
    async fn create_endpoint(&self, endpoint: &Endpoint) -> Result<()> {
        let events = serde_json::to_string(&endpoint.events)
            .map_err(|e| Error::ours(format!("event types cannot be written: {e}")))?;
        sqlx::query(
            "INSERT INTO endpoints (id, organization_id, url, events, min_score, secret, last_sequence, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
        )
        .bind(endpoint.id.as_str())
        .bind(endpoint.organization_id.as_str())
        .bind(&endpoint.url)
        .bind(events)
        .bind(endpoint.min_score)
        .bind(&endpoint.secret)
        .bind(endpoint.created_at.0)
        .execute(&self.writer)
        .await
        .map_err(|e| db(e).context("cannot add the webhook endpoint"))?;
        Ok(())
    }

    async fn endpoint(&self, organization: &OrganizationId, id: &EndpointId) -> Result<Option<Endpoint>> {
        let row = sqlx::query("SELECT * FROM endpoints WHERE id = ? AND organization_id = ?")
            .bind(id.as_str())
            .bind(organization.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(db)?;
        row.as_ref().map(endpoint).transpose()
    }

    async fn endpoints(&self, organization: &OrganizationId, page: &Page) -> Result<Paged<Endpoint>> {
        let cursor = page::Cursor::of(page)?;
        let rows = sqlx::query(
            "SELECT * FROM endpoints WHERE organization_id = ? AND (created_at, id) < (?, ?) \
             ORDER BY created_at DESC, id DESC LIMIT ?",
        )
        .bind(organization.as_str())
        .bind(cursor.rank)
        .bind(cursor.id)
        .bind(page::fetch(page))
        .fetch_all(&self.readers)
        .await
        .map_err(db)?;
        let items = rows.iter().map(endpoint).collect::<Result<Vec<_>>>()?;
        Ok(page::cut(items, page, |e| (e.created_at.0, e.id.to_string())))
    }

    async fn delete_endpoint(&self, organization: &OrganizationId, id: &EndpointId) -> Result<bool> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM deliveries WHERE endpoint_id = ? AND organization_id = ?")
            .bind(id.as_str())
            .bind(organization.as_str())
            .execute(&mut *tx)
            .await
            .map_err(db)?;
        let gone = sqlx::query("DELETE FROM endpoints WHERE id = ? AND organization_id = ?")
            .bind(id.as_str())
            .bind(organization.as_str())
            .execute(&mut *tx)
            .await
            .map_err(db)?;
        tx.commit().await.map_err(db)?;
        Ok(gone.rows_affected() > 0)
    }

    async fn deliveries(
        &self,
        organization: &OrganizationId,
        endpoint: &EndpointId,
        state: Option<DeliveryState>,
        page: &Page,
    ) -> Result<Paged<Delivery>> {
        let cursor = page::Cursor::of(page)?;
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM deliveries WHERE organization_id = ");
        query.push_bind(organization.as_str()).push(" AND endpoint_id = ").push_bind(endpoint.as_str());
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.name());
        }
        query.push(" AND sequence < ").push_bind(cursor.rank);
        query.push(" ORDER BY sequence DESC LIMIT ").push_bind(page::fetch(page));
        let rows = query.build().fetch_all(&self.readers).await.map_err(db)?;
        let items = rows.iter().map(delivery).collect::<Result<Vec<_>>>()?;
        Ok(page::cut(items, page, |d| (i64::try_from(d.sequence).unwrap_or(i64::MAX), d.id.to_string())))
    }

    async fn lease_deliveries(
        &self,
        now: WallTime,
        until: WallTime,
        limit: u32,
        order: &DeliveryOrder,
    ) -> Result<Vec<LeasedDelivery>> {
        let mut tx = self.write().await?;
        // One delivery of an endpoint at a time. Its queue waits for its head, so that events arrive in
        // order; but a head that was refused so often and for so long that the receiver refuses it,
        // and not everything, steps aside and is tried again between the others.
        let old = now.plus_millis(order.millis.saturating_neg());
        let rows = sqlx::query(
            "SELECT * FROM ( \
               SELECT d.*, \
                 ROW_NUMBER() OVER (PARTITION BY d.organization_id ORDER BY d.next_attempt_at, d.id) AS turn, \
                 (SELECT COUNT(*) FROM deliveries mine WHERE mine.organization_id = d.organization_id \
                  AND mine.state = 'pending' AND mine.leased_until > ?) AS leased \
               FROM endpoints e JOIN deliveries d ON d.endpoint_id = e.id AND d.state = 'pending' \
               AND d.sequence = ( \
                 SELECT due.sequence FROM deliveries due WHERE due.endpoint_id = e.id AND due.state = 'pending' \
                 AND due.next_attempt_at <= ? AND ((due.attempts >= ? AND due.created_at <= ?) OR due.sequence = ( \
                   SELECT MIN(head.sequence) FROM deliveries head WHERE head.endpoint_id = e.id \
                   AND head.state = 'pending' AND (head.attempts < ? OR head.created_at > ?))) \
                 ORDER BY due.next_attempt_at, due.attempts, due.sequence LIMIT 1) \
               WHERE NOT EXISTS (SELECT 1 FROM deliveries busy WHERE busy.endpoint_id = e.id \
                 AND busy.state = 'pending' AND busy.leased_until > ?)) \
             WHERE turn + leased <= ? ORDER BY turn, next_attempt_at, id LIMIT ?",
        )
        .bind(now.0)
        .bind(now.0)
        .bind(i64::from(order.attempts))
        .bind(old.0)
        .bind(i64::from(order.attempts))
        .bind(old.0)
        .bind(now.0)
        .bind(i64::from(order.per_organization))
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await
        .map_err(db)?;
        let mut leased = Vec::with_capacity(rows.len());
        for row in &rows {
            let delivery = delivery(row)?;
            sqlx::query("UPDATE deliveries SET leased_until = ? WHERE id = ?")
                .bind(until.0)
                .bind(delivery.id.as_str())
                .execute(&mut *tx)
                .await
                .map_err(db)?;
            let target = sqlx::query("SELECT * FROM endpoints WHERE id = ?")
                .bind(delivery.endpoint_id.as_str())
                .fetch_one(&mut *tx)
                .await
                .map_err(db)?;
            leased.push(LeasedDelivery { endpoint: endpoint(&target)?, delivery });
        }
        tx.commit().await.map_err(db)?;
        Ok(leased)
    }

    async fn finish_attempt(&self, id: &WebhookId, outcome: &AttemptOutcome, now: WallTime) -> Result<()> {
        let (state, next, said) = match outcome {
            AttemptOutcome::Delivered { status } => (DeliveryState::Delivered, now, status.to_string()),
            AttemptOutcome::Retry { at, reason } => (DeliveryState::Pending, *at, reason.clone()),
            AttemptOutcome::GaveUp { reason } => (DeliveryState::Failed, now, reason.clone()),
        };
        // Only while pending: a late word from a worker whose lease ran out takes nothing back, and
        // one about a deleted endpoint is about nothing.
        sqlx::query(
            "UPDATE deliveries SET state = ?, next_attempt_at = ?, last_outcome = ?, attempts = attempts + 1, \
             leased_until = NULL WHERE id = ? AND state = 'pending'",
        )
        .bind(state.name())
        .bind(next.0)
        .bind(said)
        .bind(id.as_str())
        .execute(&self.writer)
        .await
        .map_err(db)?;
        Ok(())
    }

    async fn outbox_depth(&self) -> Result<(u64, Option<WallTime>)> {
        let row =
            sqlx::query("SELECT COUNT(*) AS depth, MIN(created_at) AS oldest FROM deliveries WHERE state = 'pending'")
                .fetch_one(&self.readers)
                .await
                .map_err(db)?;
        let depth: i64 = get(&row, "depth")?;
        let oldest: Option<i64> = get(&row, "oldest")?;
        Ok((u64::try_from(depth).map_err(|_| broken("depth"))?, oldest.map(WallTime)))
    }
}
