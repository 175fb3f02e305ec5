//! The steps of a stream's life as others see them: rows in the store, events in its outbox, entries
//! in the signals log. The wall clock is read here, for what only tells when something happened.

use crest_core::bus::Record;
use crest_core::crash::{Stage, around};
use crest_core::event::EventType;
use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::stream::{Stream, StreamState};
use crest_core::topic::Topic;
use crest_core::view::stream_event;
use crest_core::{MediaTime, Result, Session, WallTime};
use std::time::Duration;

use crate::lifecycle::Shared;

/// Waits between attempts at something that may succeed later.
const PATIENCE: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];

/// Now, as an event tells it.
pub(crate) fn now() -> WallTime {
    WallTime(jiff::Timestamp::now().as_millisecond())
}

/// Tries again, a few times, what failed for a passing reason.
pub(crate) async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    for wait in PATIENCE {
        match attempt().await {
            Err(error) if error.retryable => tokio::time::sleep(wait).await,
            done => return done,
        }
    }
    attempt().await
}

impl Shared {
    /// Allocates the next session, before its first sample, and begins its log.
    pub(crate) async fn begin_session(&self, stream: &Stream) -> Result<Session> {
        let wall = now();
        // Not repeated: a second attempt would be a second session.
        let session = around(Stage::Session, self.store.start_session(&stream.id, wall)).await?;
        let begun = self.log(stream, session, SignalEntry::SessionStart { wall, media: true });
        around(Stage::Session, begun).await?;
        tracing::info!(stream_id = %stream.id, %session, "a session begins");
        Ok(session)
    }

    /// Ends a session in its log and in the store.
    pub(crate) async fn end_session(&self, stream: &Stream, session: Session, at: MediaTime) -> Result<()> {
        self.log(stream, session, SignalEntry::SessionEnd { at }).await?;
        patiently(|| self.store.end_session(&stream.id, session, at)).await?;
        tracing::info!(stream_id = %stream.id, %session, %at, "the session is over");
        Ok(())
    }

    /// Moves the stream to `to` and tells its owner, in one step.
    pub(crate) async fn step(
        &self,
        stream: &Stream,
        session: Option<Session>,
        to: StreamState,
        event: EventType,
        reason: Option<&str>,
    ) -> Result<()> {
        let at = now();
        let event = stream_event(&stream.organization_id, &stream.id, session, event, reason, at, &self.links);
        let events = std::slice::from_ref(&event);
        let transition = patiently(|| self.store.transition_stream(&stream.id, to, reason, at, events));
        let changed = around(Stage::State, transition).await?;
        if changed {
            let session = session.map(Session::number);
            tracing::info!(stream_id = %stream.id, session, state = to.name(), reason, "the stream's state changed");
        }
        Ok(())
    }

    /// Begins the log of the stream's latest session once more: where it had begun, this changes nothing.
    pub(crate) async fn begin_log_again(&self, stream: &Stream) -> Result<()> {
        let Some(latest) = self.store.sessions(&stream.id).await?.pop() else { return Ok(()) };
        let start = SignalEntry::SessionStart { wall: latest.started_at, media: true };
        self.log(stream, latest.session, start).await
    }

    /// A stream that an earlier process left live.
    pub(crate) async fn interrupted_by_restart(&self, stream: &Stream) -> Result<()> {
        let event = EventType::StreamInterrupted;
        self.step(stream, stream.session, StreamState::Interrupted, event, Some("server restarted")).await
    }

    async fn log(&self, stream: &Stream, session: Session, entry: SignalEntry) -> Result<()> {
        let batch = SignalBatch { organization_id: stream.organization_id.clone(), session, entries: vec![entry] };
        let record = Record::new(Topic::Signals, stream.id.clone(), batch.encode()?);
        patiently(|| self.bus.append(Topic::Signals, vec![record.clone()])).await?;
        Ok(())
    }
}
