//! Feeds that are relayed: what an RTMP publisher sends goes to other RTMP servers as it came, message by message.
//! A server that is slow, refuses or is not there disturbs nobody: each has a bounded queue and a task of its own.

mod board;
mod client;
mod config;
mod line;
mod patient;
mod pauses;
mod queue;
mod tag;
mod target;
mod wire;

pub use config::ForwardConfig;

use bytes::Bytes;
use crest_core::store::SharedStore;
use crest_core::stream::Stream;
use crest_core::{Error, Result, StreamId};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pull::{Allowed, PullConfig};
use crate::states::now;
use board::Board;
use client::Door;
use line::Line;
use pauses::{Pauses, Way};
use queue::Queue;
use tag::Tag;
use target::Target;

/// Starts what relays feeds.
pub(crate) struct Forwards {
    config: ForwardConfig,
    door: Door,
    board: Arc<Board>,
    pauses: Arc<Pauses>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Forwards {
    /// Private addresses are relayed to as `pull` says. How servers are doing is kept in the store.
    pub(crate) fn new(
        config: ForwardConfig,
        pull: &PullConfig,
        store: SharedStore,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .map_err(|error| Error::outside(format!("the system's trusted certificates cannot be used: {error}")))?
            .with_no_client_auth();
        let door = Door { allowed: Allowed::new(pull).map_err(Error::user)?, tls: Arc::new(tls) };
        let board = Arc::<Board>::default();
        tasks.spawn(Arc::clone(&board).run(store, shutdown.clone()));
        let pauses = Arc::new(Pauses::new(&config));
        Ok(Self { config, door, board, pauses, tasks, shutdown })
    }

    /// Relays what a publisher of the stream sends from now on, where the stream says to which servers.
    pub(crate) fn start(&self, stream: &Stream) -> Option<Relay> {
        if stream.forward.is_empty() {
            return None;
        }
        let max_bytes = usize::try_from(self.config.queue_bytes.as_u64()).unwrap_or(usize::MAX);
        let max_age = i32::try_from(self.config.queue.0.as_millis()).unwrap_or(i32::MAX);
        let line = || Arc::new(Line::new(Queue::new(max_bytes, max_age), now()));
        let lines: Vec<Arc<Line>> = stream.forward.iter().map(|_| line()).collect();
        self.board.begin(&stream.id, lines.clone());
        for (server, line) in stream.forward.iter().zip(&lines) {
            let target = Target {
                way: Way { stream: stream.id.clone(), server: server.clone() },
                line: Arc::clone(line),
                board: Arc::clone(&self.board),
                pauses: Arc::clone(&self.pauses),
                config: self.config.clone(),
                door: self.door.clone(),
            };
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = target.run() => {}
                }
            });
        }
        Some(Relay { stream: stream.id.clone(), lines, board: Arc::clone(&self.board) })
    }
}

/// What a publisher's messages are given to. Dropping it says that no more will come.
pub(crate) struct Relay {
    stream: StreamId,
    lines: Vec<Arc<Line>>,
    board: Arc<Board>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("stream", &self.stream).field("targets", &self.lines.len()).finish()
    }
}

impl Relay {
    /// Takes a message as the publisher sent it; never waits.
    pub(crate) fn send(&self, kind: u8, timestamp: u32, body: &Bytes) {
        for line in &self.lines {
            line.push(Tag { kind, timestamp, body: body.clone() });
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.lines.iter().for_each(|line| line.over.cancel());
        self.board.end(&self.stream, &self.lines);
    }
}
