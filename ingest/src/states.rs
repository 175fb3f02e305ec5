//! The steps of a stream's life as others see them: rows in the store, events in its outbox, entries
//! in the signals log. The wall clock is read here, for what only tells when something happened.

use crest_core::bus::{Record, SharedBus};
use crest_core::control::Control;
use crest_core::crash::{Stage, around};
use crest_core::event::EventType;
use crest_core::instance::InstanceId;
use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::store::SharedStore;
use crest_core::stream::{Stream, StreamState};
use crest_core::topic::Topic;
use crest_core::view::{Links, stream_event};
use crest_core::{MediaTime, Result, Session, WallTime};
use std::time::Duration;

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

/// Takes the steps, for whoever feeds a stream, and for streams that nobody feeds.
///
/// Steps name the session that they are about: once another process began a later one they are conflicts,
/// and change nothing.
#[derive(Clone, Copy)]
pub struct Steps<'a> {
    /// Where the states are kept.
    pub store: &'a SharedStore,
    /// Where the signals log is.
    pub bus: &'a SharedBus,
    /// Addresses that events carry.
    pub links: &'a Links,
}

impl Steps<'_> {
    /// Ends a stream that no process feeds or waits for. Where another one does so at the same time, it is
    /// ended once.
    pub async fn end_left(&self, stream: &Stream, reason: &str) -> Result<()> {
        if let Some(session) = stream.session {
            self.begin_log_again(stream).await?;
            let end = self.store.stored_to(&stream.id, session).await?.unwrap_or(MediaTime::ZERO);
            self.end_session(stream, session, end).await?;
        }
        self.step(stream, stream.session, StreamState::Ended, EventType::StreamEnded, Some(reason)).await
    }

    /// Allocates the next session, before its first sample, and begins its log. Its media began at `wall`.
    pub(crate) async fn begin_session(
        &self,
        stream: &Stream,
        instance: &InstanceId,
        wall: WallTime,
    ) -> Result<Session> {
        // A second attempt is answered with the session of the first.
        let started = patiently(|| self.store.start_session(&stream.id, wall, instance));
        let session = around(Stage::Session, started).await?;
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
        let event = stream_event(&stream.organization_id, &stream.id, session, event, reason, at, self.links);
        let events = std::slice::from_ref(&event);
        let transition = patiently(|| self.store.transition_stream(&stream.id, session, to, reason, at, events));
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

    /// A stream whose publisher is away for a reason that is not its own.
    pub(crate) async fn interrupt(&self, stream: &Stream, reason: &str) -> Result<()> {
        let event = EventType::StreamInterrupted;
        self.step(stream, stream.session, StreamState::Interrupted, event, Some(reason)).await
    }

    /// Tells the other processes that a session began here. They find out by themselves as well, later.
    pub(crate) async fn tell(&self, stream: &Stream, session: Session, instance: &InstanceId) {
        let began = Control::Session { stream_id: stream.id.clone(), session, instance: instance.clone() };
        let told = async {
            let record = Record::new(Topic::Control, stream.id.clone(), began.encode()?);
            self.bus.append(Topic::Control, vec![record]).await
        };
        if let Err(error) = told.await {
            tracing::warn!(stream_id = %stream.id, %session, %error, "other processes are not told of a session at once");
        }
    }

    async fn log(&self, stream: &Stream, session: Session, entry: SignalEntry) -> Result<()> {
        let batch = SignalBatch { organization_id: stream.organization_id.clone(), session, entries: vec![entry] };
        let record = Record::new(Topic::Signals, stream.id.clone(), batch.encode()?);
        patiently(|| self.bus.append(Topic::Signals, vec![record.clone()])).await?;
        Ok(())
    }
}
