//! A stream's life: publish, interrupt, resume, end. One task per stream that is being fed or may
//! come back does all of it, so that no two steps of one stream ever overlap.

use crest_core::bus::SharedBus;
use crest_core::codec::MediaEvent;
use crest_core::event::EventType;
use crest_core::instance::InstanceId;
use crest_core::key::KeyDigest;
use crest_core::space::Space;
use crest_core::store::SharedStore;
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::view::Links;
use crest_core::{Error, MediaTime, Result, Session, StreamId};
use crest_media::{KeyframePool, SegmenterConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chat::{Chats, Following};
use crate::config::IngestConfig;
use crate::feed::{Feed, Opening, SessionMedia};
use crate::limits::{Excess, Ledger};
use crate::publish::{Delivery, Source};
use crate::recent::Recent;
use crate::registry::Registry;
use crate::states::{Steps, now};
use crate::timeline::Track;
use crate::upload::Uploads;

/// Pause before what could not be kept is tried again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// What every feed uses.
pub(crate) struct Shared {
    pub(crate) store: SharedStore,
    pub(crate) bus: SharedBus,
    /// Where closed segments go, when they do not stay here.
    pub(crate) uploads: Option<Arc<Uploads>>,
    pub(crate) instance: InstanceId,
    pub(crate) root: PathBuf,
    pub(crate) links: Links,
    pub(crate) pool: KeyframePool,
    pub(crate) segmenter: SegmenterConfig,
    pub(crate) ingest: IngestConfig,
    pub(crate) limits: Arc<Ledger>,
    /// How long a source that is pulled may be away.
    pub(crate) pull_patience: Duration,
    pub(crate) chats: Arc<Chats>,
    pub(crate) space: Space,
    /// Whether this is the only process: nobody else feeds streams.
    pub(crate) alone: bool,
    /// Streams that another process took over.
    pub(crate) followed: Recent,
    pub(crate) shutdown: CancellationToken,
}

impl Shared {
    /// Where the media of a session ends: what is indexed, and what an earlier process left here.
    pub(crate) async fn media_end(&self, stream: &StreamId, session: Session) -> Result<MediaTime> {
        let left = self.uploads.as_ref().and_then(|uploads| uploads.left_to(stream, session));
        Ok(self.store.stored_to(stream, session).await?.max(left).unwrap_or(MediaTime::ZERO))
    }

    /// How long a stream's feed may be away before the stream is over.
    pub(crate) fn patience(&self, stream: &Stream) -> Duration {
        match stream.source {
            SourceKind::Url => self.pull_patience,
            SourceKind::Rtmp | SourceKind::Whip | SourceKind::Srt => self.ingest.reconnect.0,
        }
    }

    /// Says why a stream is not fed, where people look for it.
    pub(crate) async fn explain(&self, stream_id: &StreamId, reason: &str) {
        if let Err(error) = self.store.explain_stream(stream_id, reason, now()).await {
            tracing::warn!(%stream_id, %error, "the stream does not say why it waits");
        }
    }

    /// The steps of streams' lives.
    pub(crate) fn steps(&self) -> Steps<'_> {
        Steps { store: &self.store, bus: &self.bus, links: &self.links }
    }
}

/// What a stream's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take this publisher; the registry admits one at a time.
    Publish(Box<Source>),
    /// End the stream, and answer when it has ended.
    End(Ending, oneshot::Sender<Result<()>>),
    /// Let go of a publisher that came in with another key than this one.
    Rekeyed(KeyDigest),
    /// Look into the store: another process may have ended the stream, or feed it by now.
    Look,
}

/// Why a stream ends before its publisher's time to come back has run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Somebody asked for it.
    Stopped,
    /// Its source has nothing more to give.
    Over(String),
    /// Its source can never give anything.
    Failed(String),
}

impl Ending {
    /// The state that it ends in, the event that says so, and why.
    pub(crate) fn step(&self) -> (StreamState, EventType, &str) {
        match self {
            Self::Stopped => (StreamState::Ended, EventType::StreamEnded, "stopped"),
            Self::Over(reason) => (StreamState::Ended, EventType::StreamEnded, reason),
            Self::Failed(reason) => (StreamState::Failed, EventType::StreamFailed, reason),
        }
    }
}

/// The session that goes on when the publisher comes back.
pub(crate) enum Latest {
    /// None yet.
    None,
    /// It belongs to a process that is gone; its timeline is not known, where it ends is.
    Foreign(Session, MediaTime),
    /// It can be continued.
    Ours(Box<SessionMedia>),
    /// If there is one, another process feeds it or waits for its publisher; this one has no part in it
    /// before the first media arrives here.
    Elsewhere,
}

impl Latest {
    pub(crate) fn session(&self) -> Option<(Session, MediaTime)> {
        match self {
            Self::None | Self::Elsewhere => None,
            Self::Foreign(session, end) => Some((*session, *end)),
            Self::Ours(media) => Some((media.session, media.end())),
        }
    }
}

/// How a publisher's stay ended.
enum Departure {
    Gone(String),
    Ended(Ending, oneshot::Sender<Result<()>>),
    /// Another process feeds the stream, or has ended it.
    Lost,
    Shutdown,
}

/// The task of one stream.
pub(crate) struct Life {
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) stream: Stream,
    pub(crate) latest: Latest,
    /// Until when an interrupted stream may come back.
    pub(crate) deadline: Option<Instant>,
    /// The stream's chat, from its first session here until it is over or fed elsewhere.
    pub(crate) following: Option<Following>,
}

impl Life {
    /// Of a stream that a publisher was just admitted for.
    pub(crate) fn new(shared: Arc<Shared>, registry: Arc<Registry>, stream: Stream) -> Self {
        Self { shared, registry, stream, latest: Latest::None, deadline: None, following: None }
    }

    /// Of a stream that an earlier process left live or interrupted; its wait begins now.
    pub(crate) fn recovered(
        shared: Arc<Shared>,
        registry: Arc<Registry>,
        stream: Stream,
        session: Option<(Session, MediaTime)>,
    ) -> Self {
        let deadline = Some(Instant::now() + shared.patience(&stream));
        let latest = session.map_or(Latest::None, |(session, end)| Latest::Foreign(session, end));
        Self { shared, registry, stream, latest, deadline, following: None }
    }

    /// Of a stream that a publisher was just admitted for, and that another process feeds or waits for.
    pub(crate) fn elsewhere(shared: Arc<Shared>, registry: Arc<Registry>, stream: Stream) -> Self {
        Self { shared, registry, stream, latest: Latest::Elsewhere, deadline: None, following: None }
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
                        let away = self.shared.patience(&self.stream).as_secs_f64();
                        if self.end_or_log(format!("did not come back within {away} s")).await {
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
                Some(Command::Publish(source)) => match self.broadcast(*source, &mut inbox).await {
                    Departure::Gone(reason) => self.interrupt(&reason).await,
                    Departure::Ended(ending, reply) => {
                        self.finish(ending, reply).await;
                        break;
                    }
                    Departure::Lost => break,
                    Departure::Shutdown => {
                        self.interrupt("server stopped").await;
                        break;
                    }
                },
                Some(Command::Look) => {
                    if self.is_lost(self.latest.session().map(|(session, _)| session)).await {
                        break;
                    }
                    continue;
                }
                // Whoever came in with the key before is gone already.
                Some(Command::Rekeyed(_)) => continue,
                Some(Command::End(ending, reply)) => {
                    self.finish(ending, reply).await;
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
                    drain(&mut source, feed.as_mut()).await;
                    break Departure::Shutdown;
                }
                command = inbox.recv() => match command {
                    Some(Command::End(ending, reply)) => {
                        drain(&mut source, feed.as_mut()).await;
                        break Departure::Ended(ending, reply);
                    }
                    Some(Command::Look) => {
                        let session = feed.as_ref().map(Feed::session);
                        if self.is_lost(session).await {
                            break Departure::Lost;
                        }
                        continue;
                    }
                    Some(Command::Rekeyed(key)) if source.came_with_another(key) => {
                        break Departure::Gone("its stream key was replaced".to_owned());
                    }
                    Some(Command::Publish(_) | Command::Rekeyed(_)) => continue,
                    None => break Departure::Shutdown,
                },
                delivery = source.next() => delivery,
            };
            let event = match delivery {
                Delivery::Media(event) => event,
                Delivery::Anchor(wall) => {
                    opening.anchor = Some(wall);
                    continue;
                }
                Delivery::LeftOut(after) => {
                    feed.iter_mut().for_each(|feed| feed.leave_out(after));
                    continue;
                }
                Delivery::Gone(reason) => break Departure::Gone(reason),
                Delivery::Over(ending, reply) => break Departure::Ended(ending, reply),
            };
            if let Err(excess) = source.gate().pass(&event, Instant::now().into_std()) {
                break self.cut_off(excess, feed.is_some()).await;
            }
            match (feed.as_mut(), event) {
                (Some(feed), event) => feed.take(event).await,
                (None, MediaEvent::VideoConfig(config)) => opening.video = Some(config),
                (None, MediaEvent::AudioConfig(config)) => opening.audio = Some(config),
                (None, MediaEvent::Video(first)) => match self.open(&mut opening, Track::Video, first).await {
                    Ok(opened) => feed = Some(opened),
                    Err(error) => break self.refused(&error),
                },
                (None, MediaEvent::Audio(first)) => match self.open(&mut opening, Track::Audio, first).await {
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

    /// A feed takes more than it may. Its reason stands with the stream whether it had begun or not.
    async fn cut_off(&self, excess: Excess, begun: bool) -> Departure {
        excess.count();
        let stream_id = &self.stream.id;
        tracing::warn!(%stream_id, limit = excess.limit, reason = excess.reason, "a feed takes more than it may; it is cut off");
        self.shared.limits.note_cut_off(stream_id, &excess);
        if !begun {
            self.shared.explain(stream_id, &excess.reason).await;
        }
        Departure::Gone(excess.reason)
    }

    fn refused(&self, error: &Error) -> Departure {
        tracing::error!(stream_id = %self.stream.id, %error, "a feed could not be started; its publisher is disconnected");
        Departure::Gone(format!("could not be started: {error}"))
    }
}

/// Takes what was delivered before, and nothing new.
async fn drain(source: &mut Source, feed: Option<&mut Feed>) {
    let Some(feed) = feed else { return };
    while let Some(event) = source.drain() {
        if source.gate().pass(&event, Instant::now().into_std()).is_err() {
            return;
        }
        feed.take(event).await;
    }
}

/// Sleeps until the deadline; for ever where there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
