//! The index of stored media: fragments to cut from, segment files to remove.

use async_trait::async_trait;

use crest_core::segment::Fragment;
use crest_core::store::{MediaIndex, StoredSegment};
use crest_core::{Error, MediaTime, OrganizationId, Result, Session, StreamId};

use super::row::{get, get_media, get_session, get_u64, get_wall};
use super::{DbRow, DbStore};
use crate::transaction::{Outcome, Whose};
use crate::values::{int, session as session_int};

fn fragment(row: &DbRow) -> Outcome<Fragment> {
    Ok(Fragment {
        organization_id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
        stream_id: StreamId::from_raw(get::<String>(row, "stream_id")?),
        session: get_session(row, "session")?,
        object: get(row, "object")?,
        header_bytes: get_u64(row, "header_bytes")?,
        offset: get_u64(row, "byte_offset")?,
        bytes: get_u64(row, "bytes")?,
        start: get_media(row, "start_ns")?,
        end: get_media(row, "end_ns")?,
        keyframe: get(row, "keyframe")?,
    })
}

#[async_trait]
impl MediaIndex for DbStore {
    async fn add_fragment(&self, fragment: &Fragment) -> Result<()> {
        change!(self, "add_fragment", Whose::Of(&fragment.organization_id), |tx| {
            // The segment's row first, empty where it is new, for the fragment refers to it. Nobody else
            // adds to it or forgets it until this is over.
            let placed = sqlx::query(
                "INSERT INTO segments (object, organization_id, stream_id, session, bytes, start_ns, end_ns, ended_at) \
                 SELECT $1, organization_id, stream_id, session, $2, $3, $3, started_at FROM sessions \
                 WHERE stream_id = $4 AND session = $5 AND organization_id = $6 \
                 ON CONFLICT (object) DO UPDATE SET bytes = segments.bytes",
            )
            .bind(&fragment.object)
            .bind(int(fragment.header_bytes)?)
            .bind(fragment.start.nanos())
            .bind(fragment.stream_id.as_str())
            .bind(session_int(fragment.session))
            .bind(fragment.organization_id.as_str())
            .execute(&mut **tx)
            .await?;
            if placed.rows_affected() == 0 {
                let (stream, session) = (&fragment.stream_id, fragment.session);
                let message = format!("stream {stream} has no session {session}; start it before its media is stored");
                return Err(Error::not_found(message).into());
            }
            let added = sqlx::query(
                "INSERT INTO fragments (object, byte_offset, organization_id, stream_id, session, header_bytes, bytes, \
                 start_ns, end_ns, keyframe) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                 ON CONFLICT (object, byte_offset) DO NOTHING",
            )
            .bind(&fragment.object)
            .bind(int(fragment.offset)?)
            .bind(fragment.organization_id.as_str())
            .bind(fragment.stream_id.as_str())
            .bind(session_int(fragment.session))
            .bind(int(fragment.header_bytes)?)
            .bind(int(fragment.bytes)?)
            .bind(fragment.start.nanos())
            .bind(fragment.end.nanos())
            .bind(fragment.keyframe)
            .execute(&mut **tx)
            .await?;
            if added.rows_affected() == 0 {
                return Ok(());
            }
            sqlx::query(
                "UPDATE segments SET bytes = bytes + $1, \
                 start_ns = CASE WHEN start_ns < $2 THEN start_ns ELSE $2 END, \
                 end_ns = CASE WHEN end_ns > $3 THEN end_ns ELSE $3 END, \
                 ended_at = (CASE WHEN end_ns > $3 THEN end_ns ELSE $3 END) / 1000000 + (SELECT s.started_at \
                 FROM sessions s WHERE s.stream_id = segments.stream_id AND s.session = segments.session) \
                 WHERE object = $4",
            )
            .bind(int(fragment.bytes)?)
            .bind(fragment.start.nanos())
            .bind(fragment.end.nanos())
            .bind(&fragment.object)
            .execute(&mut **tx)
            .await?;
            Ok(())
        })
    }

    async fn fragments(
        &self,
        stream: &StreamId,
        session: Session,
        from: MediaTime,
        to: MediaTime,
    ) -> Result<Vec<Fragment>> {
        look!(self, Whose::All, |tx| {
            let first = sqlx::query(
                "SELECT start_ns, keyframe FROM fragments WHERE stream_id = $1 AND session = $2 AND end_ns > $3 \
                 AND start_ns < $4 ORDER BY end_ns, start_ns LIMIT 1",
            )
            .bind(stream.as_str())
            .bind(session_int(session))
            .bind(from.nanos())
            .bind(to.nanos())
            .fetch_optional(&mut **tx)
            .await?;
            let Some(first) = first else { return Ok(Vec::new()) };
            let mut begin: i64 = get(&first, "start_ns")?;
            if !get::<bool>(&first, "keyframe")? {
                // Without an earlier keyframe (retention took it) what overlaps is all there is.
                let earlier: Option<i64> = sqlx::query_scalar(
                    "SELECT MAX(start_ns) FROM fragments \
                     WHERE stream_id = $1 AND session = $2 AND start_ns < $3 AND keyframe = TRUE",
                )
                .bind(stream.as_str())
                .bind(session_int(session))
                .bind(begin)
                .fetch_one(&mut **tx)
                .await?;
                begin = earlier.unwrap_or(begin);
            }
            let rows = sqlx::query(
                "SELECT * FROM fragments WHERE stream_id = $1 AND session = $2 AND start_ns >= $3 AND start_ns < $4 \
                 ORDER BY start_ns, object, byte_offset",
            )
            .bind(stream.as_str())
            .bind(session_int(session))
            .bind(begin)
            .bind(to.nanos())
            .fetch_all(&mut **tx)
            .await?;
            rows.iter().map(fragment).collect()
        })
    }

    async fn stored_to(&self, stream: &StreamId, session: Session) -> Result<Option<MediaTime>> {
        look!(self, Whose::All, |tx| {
            let end: Option<i64> =
                sqlx::query_scalar("SELECT MAX(end_ns) FROM segments WHERE stream_id = $1 AND session = $2")
                    .bind(stream.as_str())
                    .bind(session_int(session))
                    .fetch_one(&mut **tx)
                    .await?;
            Ok(end.map(MediaTime::from_nanos))
        })
    }

    async fn removable_segments(&self, limit: u32, margin: MediaTime) -> Result<Vec<StoredSegment>> {
        look!(self, Whose::All, |tx| {
            // The last file of a session that goes on may still be written.
            let rows = sqlx::query(
                "SELECT g.object, g.bytes, g.ended_at FROM segments g \
                 JOIN sessions s ON s.stream_id = g.stream_id AND s.session = g.session \
                 WHERE NOT EXISTS (SELECT 1 FROM highlights h \
                     WHERE h.stream_id = g.stream_id AND h.session = g.session AND h.state IN ('provisional', 'final') \
                     AND h.start_ns - $1 <= g.end_ns AND h.end_ns + $1 >= g.start_ns) \
                 AND (s.ended_at_ns IS NOT NULL OR EXISTS (SELECT 1 FROM segments later \
                     WHERE later.stream_id = g.stream_id AND later.session = g.session AND later.end_ns > g.end_ns)) \
                 ORDER BY g.ended_at, g.object LIMIT $2",
            )
            .bind(margin.nanos())
            .bind(i64::from(limit))
            .fetch_all(&mut **tx)
            .await?;
            let segment = |row| {
                Ok(StoredSegment {
                    object: get(row, "object")?,
                    bytes: get_u64(row, "bytes")?,
                    ended_at: get_wall(row, "ended_at")?,
                })
            };
            rows.iter().map(segment).collect()
        })
    }

    async fn forget_segment(&self, object: &str) -> Result<()> {
        change!(self, "forget_segment", Whose::All, |tx| {
            let held = sqlx::query(concat!("SELECT object FROM segments WHERE object = $1", lock_row!()))
                .bind(object)
                .fetch_optional(&mut **tx)
                .await?;
            // One that is added just now is not held, and its fragments are not seen: it is another's to forget.
            if held.is_none() {
                return Ok(());
            }
            for statement in ["DELETE FROM fragments WHERE object = $1", "DELETE FROM segments WHERE object = $1"] {
                sqlx::query(statement).bind(object).execute(&mut **tx).await?;
            }
            Ok(())
        })
    }
}
