//! A tenant's events in the order of their commits, for those who read on from a position.

use async_trait::async_trait;
use sqlx::QueryBuilder;
use std::collections::HashMap;

use crest_core::event::{Event, EventType};
use crest_core::store::{Events, PositionedEvent};
use crest_core::{EventId, OrganizationId, Result, StreamId};

use super::row::{get, get_named, get_some_session, get_trace, get_u64, get_wall};
use super::{Db, DbRow, DbStore};
use crate::page::MAX_PAGE;
use crate::transaction::{Outcome, Whose};
use crate::values::{from_json, int};

fn positioned(row: &DbRow) -> Outcome<PositionedEvent> {
    Ok(PositionedEvent {
        position: get_u64(row, "position")?,
        event: Event {
            id: EventId::from_raw(get::<String>(row, "id")?),
            organization_id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
            event_type: get_named(row, "event_type", EventType::parse)?,
            subject: get(row, "subject")?,
            revision: get_u64(row, "revision")?,
            timestamp: get_wall(row, "happened_at")?,
            stream_id: get::<Option<String>>(row, "stream_id")?.map(StreamId::from_raw),
            session: get_some_session(row, "session")?,
            score: get(row, "score")?,
            data: from_json(get(row, "data")?, |text| serde_json::from_str(text))?,
            trace: get_trace(row, "trace")?,
        },
    })
}

#[async_trait]
impl Events for DbStore {
    async fn last_positions(&self, organizations: &[OrganizationId]) -> Result<HashMap<OrganizationId, u64>> {
        if organizations.is_empty() {
            return Ok(HashMap::new());
        }
        look!(self, Whose::All, |tx| {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT organization_id, last_position FROM organizations WHERE organization_id IN (",
            );
            let mut list = query.separated(", ");
            for organization in organizations {
                list.push_bind(organization.as_str());
            }
            query.push(")");
            let rows = query.build().fetch_all(&mut **tx).await?;
            let last = |row| {
                let id = OrganizationId::from_raw(get::<String>(row, "organization_id")?);
                Ok((id, get_u64(row, "last_position")?))
            };
            rows.iter().map(last).collect()
        })
    }

    async fn event_at(&self, organization: &OrganizationId, position: u64) -> Result<Option<EventId>> {
        look!(self, Whose::Of(organization), |tx| {
            let id: Option<String> =
                sqlx::query_scalar("SELECT id FROM events WHERE organization_id = $1 AND position = $2")
                    .bind(organization.as_str())
                    .bind(int(position)?)
                    .fetch_optional(&mut **tx)
                    .await?;
            Ok(id.map(EventId::from_raw))
        })
    }

    async fn events_after(
        &self,
        organization: &OrganizationId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<PositionedEvent>> {
        look!(self, Whose::Of(organization), |tx| {
            let rows = sqlx::query(
                "SELECT * FROM events WHERE organization_id = $1 AND position > $2 ORDER BY position LIMIT $3",
            )
            .bind(organization.as_str())
            .bind(int(after)?)
            .bind(i64::from(limit.clamp(1, MAX_PAGE)))
            .fetch_all(&mut **tx)
            .await?;
            rows.iter().map(positioned).collect()
        })
    }
}
