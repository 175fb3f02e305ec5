//! Streams, their states with history, and their sessions.

use async_trait::async_trait;
use sqlx::QueryBuilder;
use subtle::ConstantTimeEq;

use crest_core::event::Event;
use crest_core::instance::InstanceId;
use crest_core::key::KeyDigest;
use crest_core::store::{Page, Paged, Streams};
use crest_core::stream::{ForwardStatus, SessionRow, SourceKind, Stream, StreamState};
use crest_core::{Error, MediaTime, OrganizationId, Result, Session, StreamId, WallTime};

use super::row::{get, get_json, get_named, get_session, get_some_session, get_wall};
use super::{Db, DbRow, DbStore, Tx, outbox};
use crate::page;
use crate::transaction::{Outcome, Whose};
use crate::values::{can_be_kept, session as session_int};

const SOURCES: [(SourceKind, &str); 4] =
    [(SourceKind::Rtmp, "rtmp"), (SourceKind::Whip, "whip"), (SourceKind::Srt, "srt"), (SourceKind::Url, "url")];

fn source_name(kind: SourceKind) -> &'static str {
    SOURCES.iter().find(|(k, _)| *k == kind).map_or("rtmp", |(_, name)| name)
}

fn parse_source(name: &str) -> Option<SourceKind> {
    SOURCES.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::ours(format!("a stream's settings cannot be written: {error}"))
}

fn stream(row: &DbRow) -> Outcome<Stream> {
    Ok(Stream {
        id: StreamId::from_raw(get::<String>(row, "id")?),
        organization_id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
        name: get(row, "name")?,
        source: get_named(row, "source", parse_source)?,
        source_url: get(row, "source_url")?,
        audio_track: get::<Option<i64>>(row, "audio_track")?.and_then(|track| u8::try_from(track).ok()),
        chat: get_json(row, "chat")?,
        forward: get_json(row, "forward")?.unwrap_or_default(),
        forwarded: get_json(row, "forwarded")?.unwrap_or_default(),
        stream_key: get(row, "stream_key")?,
        state: get_named(row, "state", StreamState::parse)?,
        state_reason: get(row, "state_reason")?,
        session: get_some_session(row, "session")?,
        instance: get::<Option<String>>(row, "instance")?.map(InstanceId::from_raw),
        created_at: get_wall(row, "created_at")?,
        updated_at: get_wall(row, "updated_at")?,
    })
}

/// A stream that is about to be changed: nobody else changes it until then.
async fn locked(tx: &mut Tx, id: &StreamId) -> Outcome<Stream> {
    let row = sqlx::query(concat!("SELECT * FROM streams WHERE id = $1", lock_row!()))
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    stream(&row.ok_or_else(|| Error::not_found(format!("there is no stream {id}")))?)
}

/// The stream whose key has this digest, and whether there are streams whose key has not been digested.
async fn holder(tx: &mut Tx, digest: &str) -> Outcome<(Option<Stream>, bool)> {
    let row = sqlx::query("SELECT * FROM streams WHERE stream_key_sha256 = $1")
        .bind(digest)
        .fetch_optional(&mut **tx)
        .await?;
    let missing = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM streams WHERE stream_key_sha256 IS NULL)")
        .fetch_one(&mut **tx)
        .await?;
    Ok((row.as_ref().map(stream).transpose()?, missing))
}

impl DbStore {
    /// Digests the keys that an earlier version stored, which may still be running beside this one.
    async fn digest_keys(&self) -> Result<()> {
        change!(self, "digest_keys", Whose::All, |tx| {
            let rows =
                sqlx::query(concat!("SELECT id, stream_key FROM streams WHERE stream_key_sha256 IS NULL", lock_row!()))
                    .fetch_all(&mut **tx)
                    .await?;
            for row in &rows {
                sqlx::query("UPDATE streams SET stream_key_sha256 = $1 WHERE id = $2")
                    .bind(KeyDigest::of(&get::<String>(row, "stream_key")?).to_string())
                    .bind(get::<String>(row, "id")?)
                    .execute(&mut **tx)
                    .await?;
            }
            Ok(())
        })
    }
}

#[async_trait]
impl Streams for DbStore {
    async fn create_stream(&self, stream: &Stream) -> Result<()> {
        let chat = stream.chat.as_ref().map(serde_json::to_string).transpose().map_err(unwritten)?;
        let forward = match stream.forward.as_slice() {
            [] => None,
            targets => Some(serde_json::to_string(targets).map_err(unwritten)?),
        };
        let done = change!(self, "create_stream", Whose::Of(&stream.organization_id), |tx| {
            sqlx::query(
                "INSERT INTO streams (id, organization_id, name, source, source_url, chat, forward, stream_key, \
                 stream_key_sha256, state, state_reason, session, instance, created_at, updated_at, audio_track) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            )
            .bind(stream.id.as_str())
            .bind(stream.organization_id.as_str())
            .bind(&stream.name)
            .bind(source_name(stream.source))
            .bind(&stream.source_url)
            .bind(&chat)
            .bind(&forward)
            .bind(&stream.stream_key)
            .bind(KeyDigest::of(&stream.stream_key).to_string())
            .bind(stream.state.name())
            .bind(&stream.state_reason)
            .bind(stream.session.map(session_int))
            .bind(stream.instance.as_ref().map(InstanceId::as_str))
            .bind(stream.created_at.0)
            .bind(stream.updated_at.0)
            .bind(stream.audio_track.map(i64::from))
            .execute(&mut **tx)
            .await?;
            Ok(())
        });
        done.map_err(|error: Error| error.context("cannot add the stream"))
    }

    async fn stream(&self, organization: &OrganizationId, id: &StreamId) -> Result<Option<Stream>> {
        if !can_be_kept(id.as_str()) {
            return Ok(None);
        }
        look!(self, Whose::Of(organization), |tx| {
            let row = sqlx::query("SELECT * FROM streams WHERE id = $1 AND organization_id = $2")
                .bind(id.as_str())
                .bind(organization.as_str())
                .fetch_optional(&mut **tx)
                .await?;
            row.as_ref().map(stream).transpose()
        })
    }

    async fn streams(&self, organization: &OrganizationId, page: &Page) -> Result<Paged<Stream>> {
        let cursor = page::Cursor::of(page)?;
        let items = look!(self, Whose::Of(organization), |tx| {
            let rows = sqlx::query(
                "SELECT * FROM streams WHERE organization_id = $1 AND (created_at, id) < ($2, $3) \
                 ORDER BY created_at DESC, id DESC LIMIT $4",
            )
            .bind(organization.as_str())
            .bind(cursor.rank)
            .bind(&cursor.id)
            .bind(page::fetch(page))
            .fetch_all(&mut **tx)
            .await?;
            rows.iter().map(stream).collect::<Outcome<Vec<_>>>()
        })?;
        Ok(page::cut(items, page, |s| (s.created_at.0, s.id.to_string())))
    }

    /// In whatever state it is: a publisher of a stream that is over deserves to be told so.
    async fn stream_of_key(&self, stream_key: &str) -> Result<Option<Stream>> {
        if !can_be_kept(stream_key) {
            return Ok(None);
        }
        let digest = KeyDigest::of(stream_key).to_string();
        let (mut row, missing) = look!(self, Whose::All, |tx| { holder(tx, &digest).await })?;
        if row.is_none() && missing {
            self.digest_keys().await?;
            (row, _) = look!(self, Whose::All, |tx| { holder(tx, &digest).await })?;
        }
        Ok(row.filter(|found| found.stream_key.as_bytes().ct_eq(stream_key.as_bytes()).into()))
    }

    /// Done again with the same key it answers the same.
    async fn rotate_stream_key(
        &self,
        organization: &OrganizationId,
        id: &StreamId,
        stream_key: &str,
    ) -> Result<Option<Stream>> {
        if !can_be_kept(id.as_str()) {
            return Ok(None);
        }
        change!(self, "rotate_stream_key", Whose::Of(organization), |tx| {
            let row = sqlx::query(concat!("SELECT * FROM streams WHERE id = $1 AND organization_id = $2", lock_row!()))
                .bind(id.as_str())
                .bind(organization.as_str())
                .fetch_optional(&mut **tx)
                .await?;
            let Some(mut rotated) = row.as_ref().map(stream).transpose()? else { return Ok(None) };
            if rotated.state.is_over() {
                return Err(Error::conflict(format!("stream {id} is over; create another one")).into());
            }
            sqlx::query("UPDATE streams SET stream_key = $1, stream_key_sha256 = $2 WHERE id = $3")
                .bind(stream_key)
                .bind(KeyDigest::of(stream_key).to_string())
                .bind(id.as_str())
                .execute(&mut **tx)
                .await?;
            stream_key.clone_into(&mut rotated.stream_key);
            Ok(Some(rotated))
        })
    }

    async fn streams_in(&self, states: &[StreamState]) -> Result<Vec<Stream>> {
        if states.is_empty() {
            return Ok(Vec::new());
        }
        look!(self, Whose::All, |tx| {
            let mut query = QueryBuilder::<Db>::new("SELECT * FROM streams WHERE state IN (");
            let mut list = query.separated(", ");
            for state in states {
                list.push_bind(state.name());
            }
            query.push(") ORDER BY created_at, id");
            let rows = query.build().fetch_all(&mut **tx).await?;
            rows.iter().map(stream).collect()
        })
    }

    async fn open_pulls(&self, organization: &OrganizationId) -> Result<u64> {
        look!(self, Whose::Of(organization), |tx| {
            let count: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM streams \
                 WHERE organization_id = $1 AND source = 'url' AND state IN ('created', 'live', 'interrupted')",
            )
            .bind(organization.as_str())
            .fetch_one(&mut **tx)
            .await?;
            Ok(u64::try_from(count).unwrap_or_default())
        })
    }

    async fn explain_stream(&self, id: &StreamId, reason: &str, now: WallTime) -> Result<()> {
        change!(self, "explain_stream", Whose::All, |tx| {
            sqlx::query(
                "UPDATE streams SET state_reason = $1, updated_at = $2 \
                 WHERE id = $3 AND state IN ('created', 'interrupted')",
            )
            .bind(reason)
            .bind(now.0)
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
            Ok(())
        })
    }

    async fn note_forwards(&self, id: &StreamId, statuses: &[ForwardStatus]) -> Result<()> {
        let noted = match statuses {
            [] => None,
            statuses => Some(serde_json::to_string(statuses).map_err(unwritten)?),
        };
        change!(self, "note_forwards", Whose::All, |tx| {
            sqlx::query("UPDATE streams SET forwarded = $1 WHERE id = $2")
                .bind(&noted)
                .bind(id.as_str())
                .execute(&mut **tx)
                .await?;
            Ok(())
        })
    }

    /// Done again it finds the stream there already, and answers `false`.
    async fn transition_stream(
        &self,
        id: &StreamId,
        session: Option<Session>,
        to: StreamState,
        reason: Option<&str>,
        now: WallTime,
        events: &[Event],
    ) -> Result<bool> {
        change!(self, "transition_stream", Whose::All, |tx| {
            let before = locked(tx, id).await?;
            if let Some(session) = session.filter(|session| before.session != Some(*session)) {
                let message = format!("session {session} of stream {id} is over; somebody else feeds the stream");
                return Err(Error::conflict(message).into());
            }
            if before.state == to {
                return Ok(false);
            }
            if !before.state.can_become(to) {
                let (from, to) = (before.state.name(), to.name());
                return Err(Error::conflict(format!("stream {id} is {from} and cannot become {to}")).into());
            }
            sqlx::query("UPDATE streams SET state = $1, state_reason = $2, updated_at = $3 WHERE id = $4")
                .bind(to.name())
                .bind(reason)
                .bind(now.0)
                .bind(id.as_str())
                .execute(&mut **tx)
                .await?;
            sqlx::query(
                "INSERT INTO stream_history (stream_id, step, organization_id, from_state, to_state, reason, at) \
                 SELECT $1, COALESCE(MAX(step), 0) + 1, $2, $3, $4, $5, $6 FROM stream_history WHERE stream_id = $1",
            )
            .bind(id.as_str())
            .bind(before.organization_id.as_str())
            .bind(before.state.name())
            .bind(to.name())
            .bind(reason)
            .bind(now.0)
            .execute(&mut **tx)
            .await?;
            let owners: Vec<_> = events.iter().map(|event| &event.organization_id).collect();
            outbox::lock_organizations(tx, &owners).await?;
            for event in events {
                outbox::insert_event(tx, event, None).await?;
            }
            Ok(true)
        })
    }

    /// Done again with the same instant by the same instance, before the session ended, it answers that
    /// session: whoever does not know whether it was kept may ask again.
    async fn start_session(&self, id: &StreamId, started_at: WallTime, instance: &InstanceId) -> Result<Session> {
        change!(self, "start_session", Whose::All, |tx| {
            let before = locked(tx, id).await?;
            if before.state.is_over() {
                return Err(Error::conflict(format!("stream {id} is over; create another one")).into());
            }
            if let Some(session) = before.session.filter(|_| before.instance.as_ref() == Some(instance)) {
                let made: bool = sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM sessions \
                     WHERE stream_id = $1 AND session = $2 AND started_at = $3 AND ended_at_ns IS NULL)",
                )
                .bind(id.as_str())
                .bind(session_int(session))
                .bind(started_at.0)
                .fetch_one(&mut **tx)
                .await?;
                if made {
                    return Ok(session);
                }
            }
            let next = Session::new(before.session.map_or(0, Session::number).saturating_add(1));
            // A session that nobody ended ends where its stored media does.
            sqlx::query(
                "UPDATE sessions SET ended_at_ns = COALESCE((SELECT MAX(g.end_ns) FROM segments g \
                 WHERE g.stream_id = sessions.stream_id AND g.session = sessions.session), 0) \
                 WHERE stream_id = $1 AND ended_at_ns IS NULL",
            )
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
            sqlx::query(
                "INSERT INTO sessions (stream_id, session, organization_id, started_at) VALUES ($1, $2, $3, $4)",
            )
            .bind(id.as_str())
            .bind(session_int(next))
            .bind(before.organization_id.as_str())
            .bind(started_at.0)
            .execute(&mut **tx)
            .await?;
            sqlx::query("UPDATE streams SET session = $1, instance = $2 WHERE id = $3")
                .bind(session_int(next))
                .bind(instance.as_str())
                .bind(id.as_str())
                .execute(&mut **tx)
                .await?;
            Ok(next)
        })
    }

    async fn end_session(&self, id: &StreamId, session: Session, ended_at: MediaTime) -> Result<()> {
        change!(self, "end_session", Whose::All, |tx| {
            let done = sqlx::query("UPDATE sessions SET ended_at_ns = $1 WHERE stream_id = $2 AND session = $3")
                .bind(ended_at.nanos())
                .bind(id.as_str())
                .bind(session_int(session))
                .execute(&mut **tx)
                .await?;
            match done.rows_affected() {
                0 => Err(Error::not_found(format!("stream {id} has no session {session}")).into()),
                _ => Ok(()),
            }
        })
    }

    async fn sessions(&self, id: &StreamId) -> Result<Vec<SessionRow>> {
        look!(self, Whose::All, |tx| {
            let rows = sqlx::query("SELECT * FROM sessions WHERE stream_id = $1 ORDER BY session")
                .bind(id.as_str())
                .fetch_all(&mut **tx)
                .await?;
            let session = |row| {
                Ok(SessionRow {
                    stream_id: id.clone(),
                    session: get_session(row, "session")?,
                    started_at: get_wall(row, "started_at")?,
                    ended_at: get::<Option<i64>>(row, "ended_at_ns")?.map(MediaTime::from_nanos),
                })
            };
            rows.iter().map(session).collect()
        })
    }
}
