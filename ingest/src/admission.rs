//! The door: who may publish, and how the API stops a stream. Starts the task of a stream.

use async_trait::async_trait;
use crest_core::feeds::FeedControl;
use crest_core::space::Room;
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::{MediaTime, Result, StreamId};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::lifecycle::{Command, Life, Shared};
use crate::publish::{Publication, Publishers, Refusal, publication};
use crate::registry::{Claim, Registry};

/// Admits publishers and owns the tasks of their streams.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    tasks: TaskTracker,
    rtmp_url: String,
}

impl Admission {
    pub(crate) fn new(shared: Arc<Shared>, tasks: TaskTracker, rtmp_url: String) -> Self {
        Self { shared, registry: Arc::default(), tasks, rtmp_url }
    }

    /// Takes over what an earlier process left: its live streams are interrupted, and everything
    /// interrupted may come back from now on as long as any other.
    pub(crate) async fn recover(&self) -> Result<()> {
        let left = self.shared.store.streams_in(&[StreamState::Live, StreamState::Interrupted]).await?;
        for stream in left {
            // It may have died between allocating the session and beginning its log.
            self.shared.begin_log_again(&stream).await?;
            if stream.state == StreamState::Live {
                self.shared.interrupted_by_restart(&stream).await?;
            }
            self.task(stream).await?;
        }
        Ok(())
    }

    /// The way to a stream's task, which is started where there is none.
    async fn task(&self, stream: Stream) -> Result<mpsc::Sender<Command>> {
        // Looked up first: nothing may be awaited between obtaining and starting.
        let earlier = match (stream.state, stream.session) {
            (StreamState::Live | StreamState::Interrupted, Some(session)) => {
                let end = self.shared.store.stored_to(&stream.id, session).await?;
                Some((session, end.unwrap_or(MediaTime::ZERO)))
            }
            _ => None,
        };
        let (inbox, receiver) = self.registry.obtain(&stream.id);
        if let Some(receiver) = receiver {
            let (shared, registry) = (Arc::clone(&self.shared), Arc::clone(&self.registry));
            let life = match stream.state {
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
        let refusal = |reason: &str, stream| Refusal { reason: reason.to_owned(), stream };
        let unavailable = |error: crest_core::Error| {
            tracing::error!(%error, "a publisher could not be looked up");
            refusal("the server cannot look up stream keys at the moment; try again", None)
        };
        if self.shared.shutdown.is_cancelled() {
            return Err(refusal("the server is stopping; try again in a moment", None));
        }
        let Some(stream) = self.shared.store.stream_of_key(key).await.map_err(unavailable)? else {
            return Err(refusal("unknown stream key; copy it again from where the stream was created", None));
        };
        let id = stream.id.clone();
        let refuse = |reason: &str| Err(refusal(reason, Some(id.clone())));
        if stream.source != kind {
            return refuse("this stream's source is another protocol; create one for this protocol");
        }
        if stream.state.is_over() {
            return refuse("this stream is over; create a new one");
        }
        // A stream that has begun may come back.
        if stream.state == StreamState::Created && self.shared.space.room() != Room::Ample {
            return refuse("the server's disk is full and it takes no new streams; try again once there is room");
        }
        let inbox = self.task(stream).await.map_err(unavailable)?;
        match self.registry.claim(&id) {
            Claim::Granted => {}
            Claim::Fed => return refuse("this stream is being fed already; stop the other publisher first"),
            Claim::Closing => return refuse("this stream is ending; try again, or create a new one"),
        }
        let (publication, source) = publication(id.clone());
        if inbox.try_send(Command::Publish(source)).is_err() {
            self.registry.departed(&id);
            return refuse("this stream is ending");
        }
        tracing::info!(stream_id = %id, "a publisher is connected");
        Ok(publication)
    }
}

#[async_trait]
impl FeedControl for Admission {
    async fn stop(&self, stream: &StreamId) -> Result<()> {
        let open = [StreamState::Created, StreamState::Live, StreamState::Interrupted];
        let open = self.shared.store.streams_in(&open).await?;
        let Some(stream) = open.into_iter().find(|candidate| candidate.id == *stream) else { return Ok(()) };
        let inbox = self.task(stream).await?;
        let (reply, answer) = oneshot::channel();
        // A task that is gone has ended the stream, or leaves it to the next start.
        if inbox.send(Command::Stop(reply)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    fn room(&self) -> Room {
        self.shared.space.room()
    }

    fn rtmp_url(&self) -> String {
        self.rtmp_url.clone()
    }
}
