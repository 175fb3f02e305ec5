//! One stream's chat, from the platform to the bus.

use crest_core::bus::Record;
use crest_core::chat::{ChatMessage, ChatSource};
use crest_core::stream::{SessionRow, Stream};
use crest_core::topic::Topic;
use crest_core::{OrganizationId, Session, StreamId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Chats;
use super::heard::{Heard, State, now};
use super::placed::Placing;
use super::shown::Shown;
use crate::lifecycle::AGAIN;

/// Records appended at once.
const BATCH: usize = 256;
/// When the stream ends or the process stops, how long what was received may take to reach the bus.
const LAST: Duration = Duration::from_secs(3);

/// Follows one stream's chat.
pub(super) struct Follower {
    chats: Arc<Chats>,
    stream: StreamId,
    organization: OrganizationId,
    source: ChatSource,
    sessions: watch::Receiver<Session>,
    stop: CancellationToken,
    shown: Shown,
    /// Why it waits, as it was said last.
    reason: Option<String>,
}

impl Follower {
    pub(super) fn new(
        chats: Arc<Chats>,
        stream: &Stream,
        source: ChatSource,
        sessions: watch::Receiver<Session>,
        stop: CancellationToken,
    ) -> Self {
        let shown = Shown::new(source.platform());
        let (stream, organization) = (stream.id.clone(), stream.organization_id.clone());
        Self { chats, stream, organization, source, sessions, stop, shown, reason: None }
    }

    /// Runs until the stream is over or let go, the process stops, or the chat is over.
    pub(super) async fn run(mut self) {
        let (stream_id, stop) = (self.stream.clone(), self.stop.clone());
        let platform = self.source.platform();
        tracing::info!(%stream_id, platform, "the stream's chat is followed");
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST).await;
        };
        tokio::select! {
            () = self.follow() => tracing::info!(%stream_id, platform, "the stream's chat is not followed any more"),
            () = late => tracing::error!(
                %stream_id, platform, "the bus did not take the last chat in time before the stop; some of it is lost"
            ),
        }
    }

    async fn follow(&mut self) {
        let stop = self.stop.clone();
        let (heard, mut inbox) = mpsc::channel(self.chats.queue);
        // Before the session is looked up: what is written meanwhile waits.
        let membership = self.chats.listen(&self.source, heard);
        let Some(mut placing) = self.begin().await else { return };
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = self.sessions.changed() => match changed {
                    Ok(()) => match self.begin().await {
                        Some(next) => placing = next,
                        None => break,
                    },
                    Err(_) => break,
                },
                count = inbox.recv_many(&mut batch, BATCH) => match count {
                    // The chat is over.
                    0 => return,
                    _ => self.take(&mut placing, &mut batch).await,
                },
            }
        }
        drop(membership);
        inbox.close();
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            self.take(&mut placing, &mut batch).await;
        }
    }

    /// The session that chat is placed in from now on; `None` when it is time to stop.
    async fn begin(&mut self) -> Option<Placing> {
        loop {
            let session = *self.sessions.borrow_and_update();
            match self.row(session).await {
                Ok(Some(row)) => return Some(Placing::new(self.organization.clone(), row, self.chats.remembered)),
                Ok(None) => {
                    tracing::warn!(stream_id = %self.stream, %session, "the store does not know the session yet")
                }
                Err(error) => tracing::warn!(stream_id = %self.stream, %error, "chat waits for its session's start"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    async fn row(&self, session: Session) -> crest_core::Result<Option<SessionRow>> {
        let rows = self.chats.store.sessions(&self.stream).await?;
        Ok(rows.into_iter().rfind(|row| row.session == session))
    }

    /// Places and appends. While the bus takes nothing, the platform is held up.
    async fn take(&mut self, placing: &mut Placing, batch: &mut Vec<Heard>) {
        let mut messages = Vec::with_capacity(batch.len());
        for heard in batch.drain(..) {
            match heard {
                Heard::Said(said) => match placing.said(said, now()) {
                    Some(message) => messages.push(message),
                    None => left_out(self.source.platform(), "before_session"),
                },
                Heard::Removed(removal) => messages.extend(placing.removed(removal, now())),
                Heard::State(state) => self.show(&state),
            }
        }
        // A ban removes as much as is remembered.
        for messages in messages.chunks(BATCH) {
            self.append(messages).await;
        }
    }

    /// Until the bus has taken them, or for good refuses them.
    async fn append(&self, messages: &[ChatMessage]) {
        let platform = self.source.platform();
        let record =
            |message: &ChatMessage| Ok(Record::new(Topic::ChatMessages, self.stream.clone(), message.encode()?));
        let records: Vec<Record> = match messages.iter().map(record).collect::<crest_core::Result<_>>() {
            Ok(records) => records,
            Err(error) => {
                return tracing::error!(stream_id = %self.stream, %error, "chat cannot be encoded; it is left out");
            }
        };
        while let Err(error) = self.chats.bus.append(Topic::ChatMessages, records.clone()).await {
            if !error.retryable {
                tracing::error!(stream_id = %self.stream, %error, "the bus refuses chat; it is left out");
                return left_out(platform, "bus");
            }
            tracing::warn!(stream_id = %self.stream, %error, "chat could not be appended; trying again");
            tokio::time::sleep(AGAIN).await;
        }
        for message in messages {
            let labels = [("platform", platform), ("kind", message.kind.name())];
            metrics::counter!("crest_chat_followed_total", &labels).increment(1);
        }
    }

    fn show(&mut self, state: &State) {
        let (stream_id, platform) = (&self.stream, self.source.platform());
        match state {
            State::Following => {
                if self.shown.set("following") {
                    tracing::info!(%stream_id, platform, "the chat is connected");
                    self.reason = None;
                }
            }
            State::Waiting(reason) => {
                self.shown.set("waiting");
                if self.reason.as_ref() != Some(reason) {
                    tracing::warn!(%stream_id, platform, reason, "the chat is not followed at the moment");
                    self.reason = Some(reason.clone());
                }
            }
            State::Over => {
                self.shown.set("over");
            }
        }
    }
}

/// Counts what is not appended.
pub(super) fn left_out(platform: &'static str, cause: &'static str) {
    metrics::counter!("crest_chat_left_out_total", "platform" => platform, "cause" => cause).increment(1);
}
