//! Places what people send on the timeline of a stream's current session.

use crest_core::stream::{SessionRow, Stream, StreamState};
use crest_core::{MediaTime, Session, WallTime};

use crate::Shared;
use crate::clock::now;
use crate::codes::Code;
use crate::config::ApiConfig;
use crate::problem::Problem;

/// The current session of a stream.
pub struct Timeline {
    /// Its number.
    pub session: Session,
    row: SessionRow,
    now: WallTime,
    early: MediaTime,
    ahead: MediaTime,
}

impl Timeline {
    /// Of a stream that has begun and is not over.
    pub async fn current(api: &Shared, stream: &Stream) -> Result<Self, Problem> {
        if stream.state.is_over() {
            return Err(Problem::new(Code::StreamOver, "Create a new stream; this one takes nothing any more."));
        }
        // Before it is live for the first time, a session may be there whose publisher never came to send.
        let begun = stream.state != StreamState::Created;
        let last = api.store.sessions(&stream.id).await?.pop().filter(|_| begun).ok_or_else(|| {
            Problem::new(Code::StreamNotLive, "Start publishing first; there is no timeline to place this on.")
        })?;
        Ok(Self::new(last, now(), &api.config))
    }

    fn new(row: SessionRow, now: WallTime, config: &ApiConfig) -> Self {
        let media = |span: crest_core::units::Span| MediaTime::from_secs_f64(span.0.as_secs_f64());
        Self { session: row.session, row, now, early: media(config.early_tolerance), ahead: media(config.max_ahead) }
    }

    /// Where an instant lies that is given as wall-clock time or as media seconds; `None` where
    /// neither is given. The error says what is wrong with it.
    pub fn place(&self, at: Option<&str>, t: Option<f64>) -> Result<Option<MediaTime>, String> {
        let media = match (at, t) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err("has both 'at' and 't'; send one of them".into()),
            (Some(at), None) => {
                let wall = WallTime::parse(at)
                    .ok_or("'at' is not an RFC 3339 time with an offset, as in 2026-11-21T10:00:00.000Z")?;
                self.row.media_at(wall)
            }
            (None, Some(t)) if t.is_finite() => MediaTime::from_secs_f64(t),
            (None, Some(_)) => return Err("'t' is not a finite number of seconds".into()),
        };
        if media.nanos() < -self.early.nanos() {
            let early = MediaTime::ZERO - media;
            return Err(format!("lies {early} before the start of session {}", self.session));
        }
        let present = self.present();
        if media - present > self.ahead {
            return Err(format!("lies at {media}, too far ahead of the present ({present})"));
        }
        Ok(Some(media.max(MediaTime::ZERO)))
    }

    /// Where the present lies.
    pub fn present(&self) -> MediaTime {
        self.row.media_at(self.now).max(MediaTime::ZERO)
    }

    /// The present and what clocks may differ by.
    pub fn soon(&self) -> MediaTime {
        self.present() + self.early
    }

    /// The wall-clock time of an instant of media.
    pub fn wall(&self, media: MediaTime) -> WallTime {
        self.row.wall_at(media)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::StreamId;

    fn timeline() -> Timeline {
        let start = WallTime(1_795_000_000_000);
        let row = SessionRow {
            stream_id: StreamId::from_raw("str_a"),
            session: Session::new(2),
            started_at: start,
            ended_at: None,
        };
        Timeline::new(row, start.plus_millis(60_000), &ApiConfig::default())
    }

    #[test]
    fn wall_time_and_media_seconds_meet() {
        let timeline = timeline();
        let at = timeline.wall(MediaTime::from_millis(12_500)).rfc3339();
        assert_eq!(timeline.place(Some(&at), None), Ok(Some(MediaTime::from_millis(12_500))));
        assert_eq!(timeline.place(None, Some(12.5)), Ok(Some(MediaTime::from_millis(12_500))));
        assert_eq!(timeline.place(None, None), Ok(None));
    }

    #[test]
    fn a_little_early_is_the_start_and_more_is_refused() {
        let timeline = timeline();
        assert_eq!(timeline.place(None, Some(-4.9)), Ok(Some(MediaTime::ZERO)));
        for bad in [-5.1, -1e300, 1e300, 60.0 + 12.0 * 3600.0 + 1.0, f64::NAN, f64::INFINITY] {
            assert!(timeline.place(None, Some(bad)).is_err(), "{bad}");
        }
        for bad in ["yesterday", "2026-11-21T10:00:00", "1970-01-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
            assert!(timeline.place(Some(bad), None).is_err(), "{bad}");
        }
        assert!(timeline.place(Some("2026-11-21T10:00:00Z"), Some(1.0)).is_err());
    }
}
