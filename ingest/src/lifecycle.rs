//! A stream's life: publish, interrupt, resume, end. One task per stream that is being fed or may
//! come back does all of it, so that no two steps of one stream ever overlap.

use crest_core::bus::SharedBus;
use crest_core::codec::{MediaEvent, Packet};
use crest_core::event::EventType;
use crest_core::space::Space;
use crest_core::store::SharedStore;
use crest_core::stream::{Stream, StreamState};
use crest_core::view::Links;
use crest_core::{MediaTime, Result, Session};
use crest_media::{KeyframePool, SegmenterConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::IngestConfig;
use crate::feed::{Feed, Opening, SessionMedia};
use crate::publish::{Delivery, Source};
use crate::registry::Registry;

/// Pause before what could not be kept is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What every feed uses.
pub(crate) struct Shared {
    pub(crate) store: SharedStore,
    pub(crate) bus: SharedBus,
    pub(crate) root: PathBuf,
    pub(crate) links: Links,
    pub(crate) pool: KeyframePool,
    pub(crate) segmenter: SegmenterConfig,
    pub(crate) ingest: IngestConfig,
    pub(crate) space: Space,
    pub(crate) shutdown: CancellationToken,
}

/// What a stream's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take this publisher; the registry admits one at a time.
    Publish(Source),
    /// End the stream, and answer when it has ended.
    Stop(oneshot::Sender<Result<()>>),
}

/// The session that goes on when the publisher comes back.
enum Latest {
    /// None yet.
    None,
    /// It belongs to a process that is gone; its timeline is not known, where it ends is.
    Foreign(Session, MediaTime),
    /// It can be continued.
    Ours(Box<SessionMedia>),
}

impl Latest {
    fn session(&self) -> Option<(Session, MediaTime)> {
        match self {
            Self::None => None,
            Self::Foreign(session, end) => Some((*session, *end)),
            Self::Ours(media) => Some((media.session, media.end())),
        }
    }
}

/// How a publisher's stay ended.
enum Departure {
    Gone(String),
    Stopped(oneshot::Sender<Result<()>>),
    Shutdown,
}

/// The task of one stream.
pub(crate) struct Life {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    stream: Stream,
    latest: Latest,
    /// Until when an interrupted stream may come back.
    deadline: Option<Instant>,
}

impl Life {
    /// Of a stream that a publisher was just admitted for.
    pub(crate) fn new(shared: Arc<Shared>, registry: Arc<Registry>, stream: Stream) -> Self {
        Self { shared, registry, stream, latest: Latest::None, deadline: None }
    }

    /// Of a stream that an earlier process left live or interrupted; its wait begins now.
    pub(crate) fn recovered(
        shared: Arc<Shared>,
        registry: Arc<Registry>,
        stream: Stream,
        session: Option<(Session, MediaTime)>,
    ) -> Self {
        let deadline = Some(Instant::now() + shared.ingest.reconnect.0);
        let latest = session.map_or(Latest::None, |(session, end)| Latest::Foreign(session, end));
        Self { shared, registry, stream, latest, deadline }
    }

    /// Runs until the stream is over, nothing holds it, or the process stops.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            let shutdown = self.shared.shutdown.clone();
            let command = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                command = inbox.recv() => command,
                () = until(self.deadline) => {
                    // A publisher may have been admitted this instant.
                    if self.registry.close(&self.stream.id) {
                        let away = self.shared.ingest.reconnect.0.as_secs_f64();
                        if self.end_or_log(&format!("did not come back within {away} s")).await {
                            break;
                        }
                        // The disk is full, perhaps: the stream is ended as soon as that can be kept.
                        self.deadline = Some(Instant::now() + AGAIN);
                        continue;
                    }
                    self.deadline = None;
                    continue;
                }
            };
            match command {
                Some(Command::Publish(source)) => match self.broadcast(source, &mut inbox).await {
                    Departure::Gone(reason) => self.interrupt(&reason).await,
                    Departure::Stopped(reply) => {
                        self.stop(reply).await;
                        break;
                    }
                    Departure::Shutdown => {
                        self.interrupt("server stopped").await;
                        break;
                    }
                },
                Some(Command::Stop(reply)) => {
                    self.stop(reply).await;
                    break;
                }
                None => break,
            }
            // Connected, but never sent anything: nothing to wait for.
            if self.latest.session().is_none() && self.deadline.is_none() && self.registry.close(&self.stream.id) {
                break;
            }
        }
        self.registry.forget(&self.stream.id);
    }

    /// Takes what a publisher sends until it is gone.
    async fn broadcast(&mut self, mut source: Source, inbox: &mut mpsc::Receiver<Command>) -> Departure {
        let shutdown = self.shared.shutdown.clone();
        let (mut opening, mut feed) = (Opening::default(), None::<Feed>);
        let departure = loop {
            let delivery = tokio::select! {
                () = shutdown.cancelled() => {
                    while let (Some(event), Some(feed)) = (source.drain(), feed.as_mut()) {
                        feed.take(event).await;
                    }
                    break Departure::Shutdown;
                }
                command = inbox.recv() => match command {
                    Some(Command::Stop(reply)) => break Departure::Stopped(reply),
                    Some(Command::Publish(_)) => continue,
                    None => break Departure::Shutdown,
                },
                delivery = source.next() => delivery,
            };
            let event = match delivery {
                Delivery::Media(event) => event,
                Delivery::Gone(reason) => break Departure::Gone(reason),
            };
            match (feed.as_mut(), event) {
                (Some(feed), event) => feed.take(event).await,
                (None, MediaEvent::VideoConfig(config)) => opening.video = Some(config),
                (None, MediaEvent::AudioConfig(config)) => opening.audio = Some(config),
                (None, MediaEvent::Video(first)) => match self.open(&mut opening, first, MediaEvent::Video).await {
                    Ok(opened) => feed = Some(opened),
                    Err(error) => break self.refused(&error),
                },
                (None, MediaEvent::Audio(first)) => match self.open(&mut opening, first, MediaEvent::Audio).await {
                    Ok(opened) => feed = Some(opened),
                    Err(error) => break self.refused(&error),
                },
            }
        };
        drop(source);
        if matches!(departure, Departure::Gone(_)) {
            // It may come back while the last samples are still on their way.
            self.registry.departed(&self.stream.id);
        }
        if let Some(feed) = feed {
            self.latest = Latest::Ours(Box::new(feed.finish().await));
        }
        departure
    }

    fn refused(&self, error: &crest_core::Error) -> Departure {
        tracing::error!(stream_id = %self.stream.id, %error, "a feed could not be started; its publisher is disconnected");
        Departure::Gone(format!("could not be started: {error}"))
    }

    /// First media: the session it belongs to, the stream's state, and the running feed.
    async fn open(&mut self, opening: &mut Opening, first: Packet, kind: fn(Packet) -> MediaEvent) -> Result<Feed> {
        let within = self.shared.ingest.reconnect.0;
        let event = match self.latest {
            Latest::None => EventType::StreamStarted,
            Latest::Foreign(..) | Latest::Ours(_) => EventType::StreamResumed,
        };
        let continues = match &mut self.latest {
            Latest::Ours(media) => media.resume(opening, &first, within),
            Latest::None | Latest::Foreign(..) => false,
        };
        let media = match std::mem::replace(&mut self.latest, Latest::None) {
            Latest::Ours(media) if continues => *media,
            latest => {
                self.latest = latest;
                if let Some((session, end)) = self.latest.session() {
                    self.shared.end_session(&self.stream, session, end).await?;
                }
                let session = self.shared.begin_session(&self.stream).await?;
                SessionMedia::new(&self.shared, &self.stream, session)
            }
        };
        let session = media.session;
        let stepped = self.shared.step(&self.stream, Some(session), StreamState::Live, event, None).await;
        if let Err(error) = stepped {
            self.latest = Latest::Ours(Box::new(media));
            return Err(error);
        }
        self.deadline = None;
        let mut feed = Feed::start(&self.shared, &self.stream, media);
        tracing::info!(stream_id = %self.stream.id, session = %feed.session(), "media arrives");
        if let Some(config) = opening.video.take() {
            feed.take(MediaEvent::VideoConfig(config)).await;
        }
        if let Some(config) = opening.audio.take() {
            feed.take(MediaEvent::AudioConfig(config)).await;
        }
        feed.take(kind(first)).await;
        Ok(feed)
    }

    /// The publisher is away. The session stays open: it may go on.
    async fn interrupt(&mut self, reason: &str) {
        let Some((session, _)) = self.latest.session() else { return };
        if self.deadline.is_some() {
            // It was away before, and left again without sending anything.
            return;
        }
        self.deadline = Some(Instant::now() + self.shared.ingest.reconnect.0);
        loop {
            let (to, event) = (StreamState::Interrupted, EventType::StreamInterrupted);
            let Err(error) = self.shared.step(&self.stream, Some(session), to, event, Some(reason)).await else {
                return;
            };
            let stream_id = &self.stream.id;
            tracing::error!(%stream_id, session = session.number(), %error, "the interruption could not be noted");
            let over = self.deadline.is_none_or(|deadline| Instant::now() >= deadline);
            // After a shutdown the next start finds the stream live, and notes it then.
            if !error.retryable || over || self.shared.shutdown.is_cancelled() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn stop(&mut self, reply: oneshot::Sender<Result<()>>) {
        self.registry.end(&self.stream.id);
        // Whoever asked may have gone away meanwhile.
        let _ = reply.send(self.end("stopped").await);
    }

    /// `false` where it may succeed later.
    async fn end_or_log(&mut self, reason: &str) -> bool {
        let Err(error) = self.end(reason).await else { return true };
        tracing::error!(stream_id = %self.stream.id, %error, retryable = error.retryable, "the stream could not be ended");
        !error.retryable
    }

    async fn end(&mut self, reason: &str) -> Result<()> {
        let latest = self.latest.session();
        if let Some((session, end)) = latest {
            self.shared.end_session(&self.stream, session, end).await?;
        }
        let session = latest.map(|(session, _)| session);
        self.shared.step(&self.stream, session, StreamState::Ended, EventType::StreamEnded, Some(reason)).await
    }
}

/// Sleeps until the deadline; for ever where there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
