//! Streams, their states with history, and their sessions.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use crest_core::event::Event;
use crest_core::store::{Page, Paged, Streams};
use crest_core::stream::{SessionRow, SourceKind, Stream, StreamState};
use crest_core::{Error, MediaTime, OrganizationId, Result, Session, StreamId, WallTime};

use crate::row::{db, get, get_named, get_session, get_wall, session as session_int};
use crate::{SqliteStore, outbox, page};

const SOURCES: [(SourceKind, &str); 4] =
    [(SourceKind::Rtmp, "rtmp"), (SourceKind::Whip, "whip"), (SourceKind::Srt, "srt"), (SourceKind::Url, "url")];

fn source_name(kind: SourceKind) -> &'static str {
    SOURCES.iter().find(|(k, _)| *k == kind).map_or("rtmp", |(_, name)| name)
}

fn parse_source(name: &str) -> Option<SourceKind> {
    SOURCES.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
}

fn stream(row: &SqliteRow) -> Result<Stream> {
    Ok(Stream {
        id: StreamId::from_raw(get::<String>(row, "id")?),
        organization_id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
        name: get(row, "name")?,
        source: get_named(row, "source", parse_source)?,
        source_url: get(row, "source_url")?,
        stream_key: get(row, "stream_key")?,
        state: get_named(row, "state", StreamState::parse)?,
        state_reason: get(row, "state_reason")?,
        session: match get::<Option<i64>>(row, "session")? {
            Some(_) => Some(get_session(row, "session")?),
            None => None,
        },
        created_at: get_wall(row, "created_at")?,
        updated_at: get_wall(row, "updated_at")?,
    })
}

fn unknown(id: &StreamId) -> Error {
    Error::not_found(format!("there is no stream {id}"))
}

#[async_trait]
impl Streams for SqliteStore {
    async fn create_stream(&self, stream: &Stream) -> Result<()> {
        sqlx::query(
            "INSERT INTO streams (id, organization_id, name, source, source_url, stream_key, state, state_reason, \
             session, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(stream.id.as_str())
        .bind(stream.organization_id.as_str())
        .bind(&stream.name)
        .bind(source_name(stream.source))
        .bind(&stream.source_url)
        .bind(&stream.stream_key)
        .bind(stream.state.name())
        .bind(&stream.state_reason)
        .bind(stream.session.map(session_int))
        .bind(stream.created_at.0)
        .bind(stream.updated_at.0)
        .execute(&self.writer)
        .await
        .map_err(|e| db(e).context("cannot add the stream"))?;
        Ok(())
    }

    async fn stream(&self, organization: &OrganizationId, id: &StreamId) -> Result<Option<Stream>> {
        let row = sqlx::query("SELECT * FROM streams WHERE id = ? AND organization_id = ?")
            .bind(id.as_str())
            .bind(organization.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(db)?;
        row.as_ref().map(stream).transpose()
    }

    async fn streams(&self, organization: &OrganizationId, page: &Page) -> Result<Paged<Stream>> {
        let cursor = page::Cursor::of(page)?;
        let rows = sqlx::query(
            "SELECT * FROM streams WHERE organization_id = ? AND (created_at, id) < (?, ?) \
             ORDER BY created_at DESC, id DESC LIMIT ?",
        )
        .bind(organization.as_str())
        .bind(cursor.rank)
        .bind(cursor.id)
        .bind(page::fetch(page))
        .fetch_all(&self.readers)
        .await
        .map_err(db)?;
        let items = rows.iter().map(stream).collect::<Result<Vec<_>>>()?;
        Ok(page::cut(items, page, |s| (s.created_at.0, s.id.to_string())))
    }

    /// In whatever state it is: a publisher of a stream that is over deserves to be told so.
    async fn stream_of_key(&self, stream_key: &str) -> Result<Option<Stream>> {
        let row = sqlx::query("SELECT * FROM streams WHERE stream_key = ?")
            .bind(stream_key)
            .fetch_optional(&self.readers)
            .await
            .map_err(db)?;
        row.as_ref().map(stream).transpose()
    }

    async fn streams_in(&self, states: &[StreamState]) -> Result<Vec<Stream>> {
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM streams WHERE state IN (");
        let mut list = query.separated(", ");
        for state in states {
            list.push_bind(state.name());
        }
        query.push(") ORDER BY created_at, id");
        let rows = query.build().fetch_all(&self.readers).await.map_err(db)?;
        rows.iter().map(stream).collect()
    }

    async fn transition_stream(
        &self,
        id: &StreamId,
        to: StreamState,
        reason: Option<&str>,
        now: WallTime,
        events: &[Event],
    ) -> Result<bool> {
        let mut tx = self.write().await?;
        let row = sqlx::query("SELECT * FROM streams WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(db)?;
        let before = stream(&row.ok_or_else(|| unknown(id))?)?;
        if before.state == to {
            return Ok(false);
        }
        if !before.state.can_become(to) {
            return Err(Error::conflict(format!(
                "stream {id} is {} and cannot become {}",
                before.state.name(),
                to.name()
            )));
        }
        sqlx::query("UPDATE streams SET state = ?, state_reason = ?, updated_at = ? WHERE id = ?")
            .bind(to.name())
            .bind(reason)
            .bind(now.0)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .map_err(db)?;
        sqlx::query(
            "INSERT INTO stream_history (stream_id, step, organization_id, from_state, to_state, reason, at) \
             SELECT ?, COALESCE(MAX(step), 0) + 1, ?, ?, ?, ?, ? FROM stream_history WHERE stream_id = ?",
        )
        .bind(id.as_str())
        .bind(before.organization_id.as_str())
        .bind(before.state.name())
        .bind(to.name())
        .bind(reason)
        .bind(now.0)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(db)?;
        for event in events {
            outbox::insert_event(&mut tx, event).await?;
        }
        tx.commit().await.map_err(db)?;
        Ok(true)
    }

    async fn start_session(&self, id: &StreamId, started_at: WallTime) -> Result<Session> {
        let mut tx = self.write().await?;
        let row = sqlx::query("SELECT * FROM streams WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(db)?;
        let before = stream(&row.ok_or_else(|| unknown(id))?)?;
        if before.state.is_over() {
            return Err(Error::conflict(format!("stream {id} is over; create another one")));
        }
        let next = Session::new(before.session.map_or(0, Session::number).saturating_add(1));
        // A session that nobody ended ends where its stored media does.
        sqlx::query(
            "UPDATE sessions SET ended_at_ns = COALESCE((SELECT MAX(g.end_ns) FROM segments g \
             WHERE g.stream_id = sessions.stream_id AND g.session = sessions.session), 0) \
             WHERE stream_id = ? AND ended_at_ns IS NULL",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(db)?;
        sqlx::query("INSERT INTO sessions (stream_id, session, organization_id, started_at) VALUES (?, ?, ?, ?)")
            .bind(id.as_str())
            .bind(session_int(next))
            .bind(before.organization_id.as_str())
            .bind(started_at.0)
            .execute(&mut *tx)
            .await
            .map_err(db)?;
        sqlx::query("UPDATE streams SET session = ? WHERE id = ?")
            .bind(session_int(next))
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .map_err(db)?;
        tx.commit().await.map_err(db)?;
        Ok(next)
    }

    async fn end_session(&self, id: &StreamId, session: Session, ended_at: MediaTime) -> Result<()> {
        let done = sqlx::query("UPDATE sessions SET ended_at_ns = ? WHERE stream_id = ? AND session = ?")
            .bind(ended_at.nanos())
            .bind(id.as_str())
            .bind(session_int(session))
            .execute(&self.writer)
            .await
            .map_err(db)?;
        match done.rows_affected() {
            0 => Err(Error::not_found(format!("stream {id} has no session {session}"))),
            _ => Ok(()),
        }
    }

    async fn sessions(&self, id: &StreamId) -> Result<Vec<SessionRow>> {
        let rows = sqlx::query("SELECT * FROM sessions WHERE stream_id = ? ORDER BY session")
            .bind(id.as_str())
            .fetch_all(&self.readers)
            .await
            .map_err(db)?;
        rows.iter()
            .map(|row| {
                Ok(SessionRow {
                    stream_id: id.clone(),
                    session: get_session(row, "session")?,
                    started_at: get_wall(row, "started_at")?,
                    ended_at: get::<Option<i64>>(row, "ended_at_ns")?.map(MediaTime::from_nanos),
                })
            })
            .collect()
    }
}
