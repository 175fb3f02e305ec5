//! The index of stored media: fragments to cut from, segment files to remove.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use crest_core::segment::Fragment;
use crest_core::store::{MediaIndex, StoredSegment};
use crest_core::{Error, MediaTime, OrganizationId, Result, Session, StreamId};

use crate::SqliteStore;
use crate::row::{db, get, get_media, get_session, get_u64, get_wall, int, session as session_int};

fn fragment(row: &SqliteRow) -> Result<Fragment> {
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
impl MediaIndex for SqliteStore {
    async fn add_fragment(&self, fragment: &Fragment) -> Result<()> {
        let mut tx = self.write().await?;
        // The segment's row first, empty where it is new, for the fragment refers to it.
        let placed = sqlx::query(
            "INSERT INTO segments (object, organization_id, stream_id, session, bytes, start_ns, end_ns, ended_at) \
             SELECT ?, organization_id, stream_id, session, ?, ?, ?, started_at FROM sessions \
             WHERE stream_id = ? AND session = ? AND organization_id = ? \
             ON CONFLICT (object) DO UPDATE SET bytes = segments.bytes",
        )
        .bind(&fragment.object)
        .bind(int(fragment.header_bytes)?)
        .bind(fragment.start.nanos())
        .bind(fragment.start.nanos())
        .bind(fragment.stream_id.as_str())
        .bind(session_int(fragment.session))
        .bind(fragment.organization_id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(db)?;
        if placed.rows_affected() == 0 {
            return Err(Error::not_found(format!(
                "stream {} has no session {}; start it before its media is stored",
                fragment.stream_id, fragment.session
            )));
        }
        let added = sqlx::query(
            "INSERT INTO fragments (object, byte_offset, organization_id, stream_id, session, header_bytes, bytes, \
             start_ns, end_ns, keyframe) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
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
        .execute(&mut *tx)
        .await
        .map_err(db)?;
        if added.rows_affected() == 0 {
            return Ok(());
        }
        sqlx::query(
            "UPDATE segments SET bytes = bytes + ?, \
             start_ns = CASE WHEN start_ns < ? THEN start_ns ELSE ? END, \
             end_ns = CASE WHEN end_ns > ? THEN end_ns ELSE ? END WHERE object = ?",
        )
        .bind(int(fragment.bytes)?)
        .bind(fragment.start.nanos())
        .bind(fragment.start.nanos())
        .bind(fragment.end.nanos())
        .bind(fragment.end.nanos())
        .bind(&fragment.object)
        .execute(&mut *tx)
        .await
        .map_err(db)?;
        sqlx::query(
            "UPDATE segments SET ended_at = end_ns / 1000000 + (SELECT s.started_at FROM sessions s \
             WHERE s.stream_id = segments.stream_id AND s.session = segments.session) WHERE object = ?",
        )
        .bind(&fragment.object)
        .execute(&mut *tx)
        .await
        .map_err(db)?;
        tx.commit().await.map_err(db)
    }

    async fn fragments(
        &self,
        stream: &StreamId,
        session: Session,
        from: MediaTime,
        to: MediaTime,
    ) -> Result<Vec<Fragment>> {
        let mut tx = self.readers.begin().await.map_err(db)?;
        let first = sqlx::query(
            "SELECT start_ns, keyframe FROM fragments \
             WHERE stream_id = ? AND session = ? AND end_ns > ? AND start_ns < ? ORDER BY end_ns, start_ns LIMIT 1",
        )
        .bind(stream.as_str())
        .bind(session_int(session))
        .bind(from.nanos())
        .bind(to.nanos())
        .fetch_optional(&mut *tx)
        .await
        .map_err(db)?;
        let Some(first) = first else { return Ok(Vec::new()) };
        let mut begin: i64 = get(&first, "start_ns")?;
        if !get::<bool>(&first, "keyframe")? {
            // Without an earlier keyframe (retention took it) what overlaps is all there is.
            let earlier: Option<i64> = sqlx::query_scalar(
                "SELECT MAX(start_ns) FROM fragments \
                 WHERE stream_id = ? AND session = ? AND start_ns < ? AND keyframe = TRUE",
            )
            .bind(stream.as_str())
            .bind(session_int(session))
            .bind(begin)
            .fetch_one(&mut *tx)
            .await
            .map_err(db)?;
            begin = earlier.unwrap_or(begin);
        }
        let rows = sqlx::query(
            "SELECT * FROM fragments WHERE stream_id = ? AND session = ? AND start_ns >= ? AND start_ns < ? \
             ORDER BY start_ns, object, byte_offset",
        )
        .bind(stream.as_str())
        .bind(session_int(session))
        .bind(begin)
        .bind(to.nanos())
        .fetch_all(&mut *tx)
        .await
        .map_err(db)?;
        rows.iter().map(fragment).collect()
    }

    async fn stored_to(&self, stream: &StreamId, session: Session) -> Result<Option<MediaTime>> {
        let end: Option<i64> =
            sqlx::query_scalar("SELECT MAX(end_ns) FROM segments WHERE stream_id = ? AND session = ?")
                .bind(stream.as_str())
                .bind(session_int(session))
                .fetch_one(&self.readers)
                .await
                .map_err(db)?;
        Ok(end.map(MediaTime::from_nanos))
    }

    async fn removable_segments(&self, limit: u32, margin: MediaTime) -> Result<Vec<StoredSegment>> {
        // The last file of a session that goes on may still be written.
        let rows = sqlx::query(
            "SELECT g.object, g.bytes, g.ended_at FROM segments g \
             JOIN sessions s ON s.stream_id = g.stream_id AND s.session = g.session \
             WHERE NOT EXISTS (SELECT 1 FROM highlights h \
                 WHERE h.stream_id = g.stream_id AND h.session = g.session AND h.state IN ('provisional', 'final') \
                 AND h.start_ns - ? <= g.end_ns AND h.end_ns + ? >= g.start_ns) \
             AND (s.ended_at_ns IS NOT NULL OR EXISTS (SELECT 1 FROM segments later \
                 WHERE later.stream_id = g.stream_id AND later.session = g.session AND later.end_ns > g.end_ns)) \
             ORDER BY g.ended_at, g.object LIMIT ?",
        )
        .bind(margin.nanos())
        .bind(margin.nanos())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(db)?;
        rows.iter()
            .map(|row| {
                Ok(StoredSegment {
                    object: get(row, "object")?,
                    bytes: get_u64(row, "bytes")?,
                    ended_at: get_wall(row, "ended_at")?,
                })
            })
            .collect()
    }

    async fn forget_segment(&self, object: &str) -> Result<()> {
        let mut tx = self.write().await?;
        for statement in ["DELETE FROM fragments WHERE object = ?", "DELETE FROM segments WHERE object = ?"] {
            sqlx::query(statement).bind(object).execute(&mut *tx).await.map_err(db)?;
        }
        tx.commit().await.map_err(db)
    }
}
