//! The task of one server that a feed is relayed to: connects, sends what waits, tries again.

use crest_core::StreamId;
use crest_core::stream::ForwardTarget;
use std::sync::Arc;
use tokio::time::{Instant, timeout};

use super::board::Board;
use super::client::{Client, Door};
use super::config::ForwardConfig;
use super::line::Line;
use super::tag::Tag;
use crate::pause::Pause;
use crate::states::now;

/// A server and the way to it.
pub(super) struct Target {
    pub(super) stream: StreamId,
    pub(super) server: ForwardTarget,
    pub(super) line: Arc<Line>,
    pub(super) board: Arc<Board>,
    pub(super) config: ForwardConfig,
    pub(super) door: Door,
}

impl Target {
    /// Relays until the publisher is gone and what it sent last has been sent.
    pub(super) async fn run(self) {
        let url = self.server.shown();
        let mut pause = Pause::new(self.config.pause.0, self.config.max_pause.0);
        // A publisher that comes and goes without sending anything is no reason to knock.
        tokio::select! {
            () = self.line.over.cancelled() => return,
            () = self.line.begun() => {}
        }
        loop {
            self.line.open();
            let connecting = timeout(self.config.timeout.0, Client::publish(&self.server, &self.door));
            let connected = tokio::select! {
                () = self.line.over.cancelled() => return,
                connected = connecting => connected,
            };
            let reason = match connected {
                Ok(Ok(client)) => {
                    tracing::info!(stream_id = %self.stream, url, "the feed is relayed");
                    self.line.live(now());
                    self.board.changed(&self.stream);
                    let (counted, begun) = (Counted::new(), Instant::now());
                    let ended = self.relay(client).await;
                    drop(counted);
                    if begun.elapsed() > self.config.max_pause.0 {
                        // It worked for a good while: what fails next is another failure.
                        pause.reset();
                    }
                    match ended {
                        Ok(()) => return,
                        Err(reason) => reason,
                    }
                }
                Ok(Err(reason)) => reason,
                Err(_) => format!("it did not accept the feed within {:?}", self.config.timeout.0),
            };
            metrics::counter!("crest_forward_failures_total").increment(1);
            let wait = pause.next();
            tracing::warn!(stream_id = %self.stream, url, reason, pause = ?wait, "the feed is not relayed; it is tried again");
            self.line.failed(reason, now());
            self.board.changed(&self.stream);
            tokio::select! {
                () = self.line.over.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what waits, until the publisher is gone; an error is why the server is.
    async fn relay(&self, mut client: Client) -> Result<(), String> {
        let limit = self.config.timeout.0;
        let stalled = || format!("it took nothing of the feed for {limit:?}");
        loop {
            tokio::select! {
                // What the server says comes first: it may wait for an answer while there is always more to send.
                biased;
                message = client.next() => {
                    timeout(limit, client.heed(&message?)).await.map_err(|_| stalled())??;
                }
                () = self.line.over.cancelled() => break,
                tag = self.line.next() => timeout(limit, self.send(&mut client, tag)).await.map_err(|_| stalled())??,
            };
        }
        let rest = async {
            while let Some(tag) = self.line.pop() {
                self.send(&mut client, tag).await?;
            }
            client.end().await
        };
        // It has had its time, and the publisher is gone: there is nobody to tell how that ended.
        let _ = timeout(limit, rest).await;
        Ok(())
    }

    /// Sends a message, and all that waits after it: together they leave in few writes.
    async fn send(&self, client: &mut Client, first: Tag) -> Result<(), String> {
        /// Bytes that are sent before the server is listened to again.
        const AT_A_TIME: usize = 64 * 1024;
        let (mut next, mut sent) = (Some(first), 0);
        while let Some(tag) = next {
            client.send(&tag).await?;
            sent += tag.body.len();
            next = if sent < AT_A_TIME { self.line.pop() } else { None };
        }
        client.flush().await?;
        metrics::counter!("crest_forward_bytes_total").increment(sent as u64);
        Ok(())
    }
}

/// A server that takes a feed, in the metrics until it is dropped.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("crest_forward_targets").increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("crest_forward_targets").decrement(1.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "target_tests.rs"]
mod tests;
