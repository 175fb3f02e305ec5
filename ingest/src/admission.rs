//! The door: who may feed a stream. Starts the task of a stream.

use async_trait::async_trait;
use crest_core::control::Control;
use crest_core::instance::{Heard, InstanceId};
use crest_core::key::KeyDigest;
use crest_core::space::Room;
use crest_core::store::SharedStore;
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::{Error, Fault, OrganizationId, Result, StreamId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::forward::Forwards;
use crate::lifecycle::{Command, Ending, Life, Shared};
use crate::limits::{Excess, Permit};
use crate::publish::{Grounds, Publication, Publishers, Refusal, publication};
use crate::pull::Pulls;
use crate::recent::Recent;
use crate::registry::{Claim, Registry};
use crate::states::now;
use crate::watch::Watch;

/// How long a stop that was asked for is remembered, where it is another process that has the stream.
const ASKED: Duration = Duration::from_secs(600);

/// Admits publishers and owns the tasks of their streams.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    /// Streams that were asked to be stopped.
    asked: Arc<Recent>,
    forwards: Forwards,
    tasks: TaskTracker,
    /// The operator's organization, once it is known: it stays the same.
    operator: OnceCell<OrganizationId>,
}

impl Admission {
    pub(crate) fn new(shared: Arc<Shared>, forwards: Forwards, tasks: TaskTracker) -> Self {
        let (registry, asked, operator) = (Arc::default(), Arc::new(Recent::new(ASKED)), OnceCell::new());
        Self { shared, registry, asked, forwards, tasks, operator }
    }

    /// Takes over what an earlier process of this data directory left: its live streams are interrupted,
    /// and everything interrupted may come back from now on as long as any other.
    pub(crate) async fn recover(&self) -> Result<()> {
        let left = self.shared.store.streams_in(&[StreamState::Live, StreamState::Interrupted]).await?;
        for stream in left.into_iter().filter(|stream| !self.is_elsewhere(stream)) {
            // It may have died between allocating the session and beginning its log.
            self.shared.steps().begin_log_again(&stream).await?;
            if stream.state == StreamState::Live {
                match self.shared.steps().interrupt(&stream, "server restarted").await {
                    // Another process feeds it or has ended it since it was read.
                    Err(error) if error.fault == Fault::Conflict && !self.shared.alone => continue,
                    interrupted => interrupted?,
                }
            }
            self.task(stream).await?;
        }
        Ok(())
    }

    /// Ends a stream, whether it is fed or not. Returns when it is over.
    pub(crate) async fn end(&self, stream: &Stream, ending: Ending) -> Result<()> {
        let now = self.shared.store.stream(&stream.organization_id, &stream.id).await?;
        let Some(stream) = now.filter(|stream| !stream.state.is_over()) else { return Ok(()) };
        // Nobody has begun it, and who was to is gone, or it would not have come to this.
        if stream.state == StreamState::Created && self.is_elsewhere(&stream) {
            let (state, event, reason) = ending.step();
            return self.shared.steps().step(&stream, None, state, event, Some(reason)).await;
        }
        let inbox = self.task(stream).await?;
        let (reply, answer) = oneshot::channel();
        // A task that is gone has ended the stream, or leaves it to the next start.
        if inbox.send(Command::End(ending, reply)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    /// Where streams are kept.
    pub(crate) fn store(&self) -> &SharedStore {
        &self.shared.store
    }

    /// This process.
    pub(crate) fn instance(&self) -> &InstanceId {
        &self.shared.instance
    }

    /// How much room there is for media.
    pub(crate) fn room(&self) -> Room {
        self.shared.space.room()
    }

    /// Whether this process feeds the stream, or is the one that was asked to.
    pub(crate) fn is_ours(&self, stream: &Stream) -> bool {
        !self.is_elsewhere(stream)
    }

    /// Admits what this process pulls for a stream.
    pub(crate) async fn admit_pulled(&self, stream: &Stream) -> Result<Publication, Refusal> {
        let now = self.shared.store.stream(&stream.organization_id, &stream.id).await.map_err(unavailable)?;
        let gone = || refusal(Grounds::Stream, "there is no such stream any more", None);
        self.admit_to(now.ok_or_else(gone)?, None).await
    }

    /// Lets go of a publisher that came in with another key than `stream` has.
    pub(crate) async fn rekeyed(&self, stream: &Stream) {
        if let Some(inbox) = self.registry.inbox(&stream.id) {
            // A task that is gone has no publisher.
            let _ = inbox.send(Command::Rekeyed(KeyDigest::of(&stream.stream_key))).await;
        }
    }

    /// What looks at the streams of other processes.
    pub(crate) fn watch(&self, heard: Heard, pulls: Arc<Pulls>) -> Watch {
        Watch {
            shared: Arc::clone(&self.shared),
            registry: Arc::clone(&self.registry),
            asked: Arc::clone(&self.asked),
            pulls,
            heard,
            left: HashMap::new(),
        }
    }

    /// Does what another process asks for.
    pub(crate) fn hear(&self, control: &Control) {
        let command = match control {
            Control::Stop { stream_id } => {
                self.asked.note(stream_id);
                Command::End(Ending::Stopped, oneshot::channel().0)
            }
            Control::Pull { .. } | Control::Rekeyed { .. } => return,
            Control::Session { instance, .. } if *instance == self.shared.instance => return,
            Control::Session { .. } => Command::Look,
        };
        self.steer(control.stream_id(), command);
    }

    /// Does what another process asks for once a stream has another key.
    pub(crate) fn hear_rekeyed(&self, stream: &Stream) {
        self.steer(&stream.id, Command::Rekeyed(KeyDigest::of(&stream.stream_key)));
    }

    fn steer(&self, id: &StreamId, command: Command) {
        if let Some(inbox) = self.registry.inbox(id)
            && inbox.try_send(command).is_err()
        {
            // The watch finds what the store says of it.
            tracing::warn!(stream_id = %id, "the stream's task is too busy to be steered at once");
        }
    }

    /// Whether another process feeds the stream or waits for its publisher, as far as is known.
    fn is_elsewhere(&self, stream: &Stream) -> bool {
        !self.shared.alone && stream.instance.as_ref() != Some(&self.shared.instance)
    }

    /// The way to a stream's task, which is started where there is none.
    async fn task(&self, stream: Stream) -> Result<mpsc::Sender<Command>> {
        // Looked up first: nothing may be awaited between obtaining and starting.
        let elsewhere = self.is_elsewhere(&stream);
        let earlier = match (stream.state, stream.session) {
            _ if elsewhere => None,
            (StreamState::Live | StreamState::Interrupted, Some(session)) => {
                Some((session, self.shared.media_end(&stream.id, session).await?))
            }
            _ => None,
        };
        let (inbox, receiver) = self.registry.obtain(&stream.id);
        if let Some(receiver) = receiver {
            let (shared, registry) = (Arc::clone(&self.shared), Arc::clone(&self.registry));
            let life = match stream.state {
                _ if elsewhere => Life::elsewhere(shared, registry, stream),
                StreamState::Live | StreamState::Interrupted => Life::recovered(shared, registry, stream, earlier),
                _ => Life::new(shared, registry, stream),
            };
            self.tasks.spawn(life.run(receiver));
        }
        Ok(inbox)
    }
}

#[async_trait]
impl Publishers for Admission {
    async fn admit(&self, key: &str, kind: SourceKind) -> Result<Publication, Refusal> {
        if self.shared.shutdown.is_cancelled() {
            return Err(refusal(Grounds::Server, "the server is stopping; try again in a moment", None));
        }
        let Some(stream) = self.shared.store.stream_of_key(key).await.map_err(unavailable)? else {
            return Err(refusal(Grounds::Key, UNKNOWN, None));
        };
        if stream.source != kind {
            let reason = "this stream's source is another protocol; create one for this protocol";
            return Err(refusal(Grounds::Stream, reason, Some(stream.id)));
        }
        let publication = self.admit_to(stream.clone(), Some(KeyDigest::of(key))).await?;
        // A key that is replaced from here on finds the publisher where `rekeyed` looks for it.
        let now = self.shared.store.stream(&stream.organization_id, &stream.id).await.map_err(unavailable)?;
        match now {
            Some(now) if now.stream_key == stream.stream_key => Ok(publication),
            _ => Err(refusal(Grounds::Key, REPLACED, Some(stream.id))),
        }
    }
}

const UNKNOWN: &str = "unknown stream key; copy it again from where the stream was created";
const REPLACED: &str = "this stream key was just replaced by another one; publish with that one";

fn refusal(grounds: Grounds, reason: &str, stream: Option<StreamId>) -> Refusal {
    Refusal { reason: reason.to_owned(), stream, grounds }
}

fn unavailable(error: Error) -> Refusal {
    tracing::error!(%error, "a publisher could not be looked up");
    refusal(Grounds::Server, "the server cannot look up stream keys at the moment; try again", None)
}

impl Admission {
    /// A place for one more feed of this stream, unless a limit is reached.
    async fn permit(&self, stream: &Stream) -> Result<Result<Permit, Excess>> {
        let limits = &self.shared.limits;
        if let Err(excess) = limits.may_return(&stream.id) {
            return Ok(Err(excess));
        }
        let organization = &stream.organization_id;
        let tenant = (!self.is_operator(organization).await?).then_some(organization);
        Ok(limits.admit(tenant))
    }

    async fn is_operator(&self, organization: &OrganizationId) -> Result<bool> {
        if self.operator.get().is_none()
            && let Some(operator) = self.shared.store.bootstrap(None, now()).await?
        {
            // Another publisher may have been told at the same time, the same.
            let _ = self.operator.set(operator.id);
        }
        Ok(self.operator.get() == Some(organization))
    }

    /// Admits whoever may feed the stream, if it may be fed; `key` is what was presented.
    async fn admit_to(&self, stream: Stream, key: Option<KeyDigest>) -> Result<Publication, Refusal> {
        let id = stream.id.clone();
        let refuse = |reason: &str| Err(refusal(Grounds::Stream, reason, Some(id.clone())));
        if stream.state.is_over() {
            return refuse("this stream is over; create a new one");
        }
        // A stream that has begun may come back.
        if stream.state == StreamState::Created && self.shared.space.room() != Room::Ample {
            return Err(refusal(
                Grounds::Server,
                "the server's disk is full and it takes no new streams; try again once there is room",
                Some(id),
            ));
        }
        if self.asked.knows(&id) {
            return refuse("this stream is ending; create a new one");
        }
        // Two publishers would take it from each other for ever.
        if stream.state == StreamState::Live && self.is_elsewhere(&stream) && self.shared.followed.knows(&id) {
            return refuse("this stream is being fed through another server; stop the other publisher first");
        }
        if self.registry.is_fed(&id) {
            return refuse("this stream is being fed already; stop the other publisher first");
        }
        let permit = match self.permit(&stream).await.map_err(unavailable)? {
            Ok(permit) => permit,
            Err(excess) => {
                excess.count();
                self.shared.explain(&id, &excess.reason).await;
                return refuse(&excess.reason);
            }
        };
        let inbox = self.task(stream.clone()).await.map_err(unavailable)?;
        match self.registry.claim(&id) {
            Claim::Granted => {}
            Claim::Fed => return refuse("this stream is being fed already; stop the other publisher first"),
            Claim::Closing => return refuse("this stream is ending; try again, or create a new one"),
        }
        let (mut publication, source) = publication(id.clone(), permit, key);
        if inbox.try_send(Command::Publish(Box::new(source))).is_err() {
            self.registry.departed(&id);
            return refuse("this stream is ending");
        }
        tracing::info!(stream_id = %id, "a publisher is connected");
        publication.audio_track = stream.audio_track;
        if stream.source == SourceKind::Rtmp {
            publication.relay = self.forwards.start(&stream);
        }
        Ok(publication)
    }
}
