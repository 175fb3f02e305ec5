//! A publisher's first media: the session it belongs to. Other processes may feed the same stream; in the
//! store the session that began last is the claim to it, and whoever has an earlier one lets go.

use crest_core::codec::{MediaEvent, Packet};
use crest_core::event::EventType;
use crest_core::stream::{Stream, StreamState};
use crest_core::{Error, Fault, MediaTime, Result, Session, WallTime};
use std::time::Duration;

use crate::feed::{Feed, Opening, SessionMedia};
use crate::lifecycle::{Latest, Life};
use crate::states::now;
use crate::timeline::Track;

/// How long a look into the store may hold up a feed.
const LOOK: Duration = Duration::from_secs(1);

impl Life {
    /// First media: the session it belongs to, the stream's state, and the running feed.
    pub(crate) async fn open(&mut self, opening: &mut Opening, track: Track, first: Packet) -> Result<Feed> {
        let within = self.shared.patience(&self.stream);
        let event = match self.latest {
            Latest::None => EventType::StreamStarted,
            Latest::Foreign(..) | Latest::Ours(_) => EventType::StreamResumed,
            Latest::Elsewhere => self.take_over().await?,
        };
        let continues = match &mut self.latest {
            Latest::Ours(media) => media.resume(opening, track, &first, within),
            Latest::None | Latest::Foreign(..) | Latest::Elsewhere => false,
        };
        let media = match std::mem::replace(&mut self.latest, Latest::None) {
            Latest::Ours(media) if continues => *media,
            latest => {
                let begun = self.next_session(latest.session(), opening.anchor).await;
                self.latest = latest;
                SessionMedia::new(&self.shared, &self.stream, begun?)
            }
        };
        let session = media.session;
        let stepped = self.shared.steps().step(&self.stream, Some(session), StreamState::Live, event, None).await;
        if let Err(error) = stepped {
            self.latest = Latest::Ours(Box::new(media));
            if error.fault == Fault::Conflict {
                self.let_go();
            }
            return Err(error);
        }
        if !continues && !self.shared.alone {
            self.shared.steps().tell(&self.stream, session, &self.shared.instance).await;
        }
        self.latest = Latest::None;
        self.deadline = None;
        let mut feed = Feed::start(&self.shared, &self.stream, media);
        tracing::info!(stream_id = %self.stream.id, session = %feed.session(), "media arrives");
        self.shared.chats.follow(&self.stream, session, &mut self.following);
        if let Some(config) = opening.video.take() {
            feed.take(MediaEvent::VideoConfig(config)).await;
        }
        if let Some(config) = opening.audio.take() {
            feed.take(MediaEvent::AudioConfig(config)).await;
        }
        let first = match track {
            Track::Video => MediaEvent::Video(first),
            Track::Audio => MediaEvent::Audio(first),
        };
        feed.take(first).await;
        Ok(feed)
    }

    /// Ends the session before, and begins the next one: at `anchor`, where the feed says when its media began.
    async fn next_session(&self, before: Option<(Session, MediaTime)>, anchor: Option<WallTime>) -> Result<Session> {
        if let Some((session, end)) = before {
            self.shared.steps().end_session(&self.stream, session, end).await?;
        }
        self.shared.steps().begin_session(&self.stream, &self.shared.instance, anchor.unwrap_or_else(now)).await
    }

    /// The publisher came here from another process, which may not have noticed: what it fed is interrupted.
    /// Its session ends in the log where the next one begins; its last samples may still be under way. Says
    /// as what the feed begins here.
    async fn take_over(&self) -> Result<EventType> {
        let Some(stream) = self.now_in_store().await?.filter(|stream| !stream.state.is_over()) else {
            return Err(Error::conflict("the stream is over; create a new one"));
        };
        if stream.state == StreamState::Live {
            self.shared.steps().interrupt(&stream, "its publisher came back to another server").await?;
        }
        Ok(if stream.session.is_some() { EventType::StreamResumed } else { EventType::StreamStarted })
    }

    async fn now_in_store(&self) -> Result<Option<Stream>> {
        self.shared.store.stream(&self.stream.organization_id, &self.stream.id).await
    }

    /// Whether the stream was ended by somebody else, or is fed by another process by now; `session` is the
    /// one that is fed or waited for here. Where the store does not answer at once, nothing is known.
    pub(crate) async fn is_lost(&mut self, session: Option<Session>) -> bool {
        let Ok(Ok(stream)) = tokio::time::timeout(LOOK, self.now_in_store()).await else { return false };
        let stream_id = &self.stream.id;
        let Some(stream) = stream.filter(|stream| !stream.state.is_over()) else {
            tracing::info!(%stream_id, "the stream was ended elsewhere; it is let go");
            self.registry.end(stream_id);
            return true;
        };
        let Some(session) = session else { return false };
        if stream.session > Some(session) {
            tracing::info!(%stream_id, %session, "another server feeds the stream by now; it is let go");
            self.shared.followed.note(stream_id);
            self.registry.end(stream_id);
            return true;
        }
        // Others took this process for gone while it could not say that it is there.
        if stream.state == StreamState::Interrupted && self.deadline.is_none() && self.latest.session().is_none() {
            let (to, event) = (StreamState::Live, EventType::StreamResumed);
            if let Err(error) = self.shared.steps().step(&self.stream, Some(session), to, event, None).await {
                tracing::warn!(%stream_id, %error, "it could not be noted that the stream goes on");
            }
        }
        false
    }

    /// Somebody else feeds the stream, or it is over.
    pub(crate) fn let_go(&mut self) {
        self.latest = Latest::Elsewhere;
        self.deadline = None;
        self.following = None;
    }
}
