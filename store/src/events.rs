//! A tenant's events in the order of their commits, for those who read on from a position.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};
use std::collections::HashMap;

use crest_core::event::{Event, EventType};
use crest_core::store::{Events, PositionedEvent};
use crest_core::{EventId, OrganizationId, Result, StreamId};

use crate::row::{db, from_json, get, get_named, get_session, get_u64, get_wall, int};
use crate::{MAX_PAGE, SqliteStore};

fn positioned(row: &SqliteRow) -> Result<PositionedEvent> {
    let session = match get::<Option<i64>>(row, "session")? {
        Some(_) => Some(get_session(row, "session")?),
        None => None,
    };
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
            session,
            score: get(row, "score")?,
            data: from_json(get(row, "data")?, |text| serde_json::from_str(text))?,
        },
    })
}

#[async_trait]
impl Events for SqliteStore {
    async fn last_positions(&self, organizations: &[OrganizationId]) -> Result<HashMap<OrganizationId, u64>> {
        if organizations.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT organization_id, last_position FROM organizations WHERE organization_id IN (",
        );
        let mut list = query.separated(", ");
        for organization in organizations {
            list.push_bind(organization.as_str());
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.readers).await.map_err(db)?;
        rows.iter()
            .map(|row| {
                let id = OrganizationId::from_raw(get::<String>(row, "organization_id")?);
                Ok((id, get_u64(row, "last_position")?))
            })
            .collect()
    }

    async fn event_at(&self, organization: &OrganizationId, position: u64) -> Result<Option<EventId>> {
        let row = sqlx::query("SELECT id FROM events WHERE organization_id = ? AND position = ?")
            .bind(organization.as_str())
            .bind(int(position)?)
            .fetch_optional(&self.readers)
            .await
            .map_err(db)?;
        row.map(|row| row.try_get::<String, _>("id").map(EventId::from_raw).map_err(db)).transpose()
    }

    async fn events_after(
        &self,
        organization: &OrganizationId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<PositionedEvent>> {
        let rows =
            sqlx::query("SELECT * FROM events WHERE organization_id = ? AND position > ? ORDER BY position LIMIT ?")
                .bind(organization.as_str())
                .bind(int(after)?)
                .bind(i64::from(limit.clamp(1, MAX_PAGE)))
                .fetch_all(&self.readers)
                .await
                .map_err(db)?;
        rows.iter().map(positioned).collect()
    }
}
