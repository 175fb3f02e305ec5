//! The task of one server that a feed is relayed to: connects, sends what waits, tries again.

use std::sync::Arc;
use tokio::time::{Instant, timeout};

use super::board::Board;
use super::client::{Client, Door};
use super::config::ForwardConfig;
use super::line::Line;
use super::pauses::{Pauses, Way};
use super::tag::Tag;
use crate::counted::Counted;
use crate::states::now;

/// A server and the way to it.
pub(super) struct Target {
    pub(super) way: Way,
    pub(super) line: Arc<Line>,
    pub(super) board: Arc<Board>,
    pub(super) pauses: Arc<Pauses>,
    pub(super) config: ForwardConfig,
    pub(super) door: Door,
}

impl Target {
    /// Relays until the publisher is gone and what it sent last has been sent.
    pub(super) async fn run(self) {
        let (stream_id, url) = (&self.way.stream, self.way.server.shown());
        // A publisher that comes and goes without sending anything is no reason to knock.
        tokio::select! {
            () = self.line.over.cancelled() => return,
            () = self.line.begun() => {}
        }
        loop {
            let dialled = match self.pauses.dial(&self.way, Instant::now()) {
                Ok(dialled) => dialled,
                Err(off) => {
                    self.wait(off.reason);
                    tokio::select! {
                        () = self.line.over.cancelled() => return,
                        () = tokio::time::sleep_until(off.until) => continue,
                    }
                }
            };
            self.line.open();
            let limit = self.config.timeout.0;
            let connecting = timeout(limit, Client::publish(&self.way.server, &self.door, limit));
            let connected = tokio::select! {
                () = self.line.over.cancelled() => return,
                connected = connecting => connected,
            };
            let reason = match connected {
                Ok(Ok(client)) => {
                    tracing::info!(%stream_id, url, "the feed is relayed");
                    self.line.live(now());
                    self.board.changed(stream_id);
                    let (counted, begun) = (Counted::new("crest_forward_targets"), Instant::now());
                    let ended = self.relay(client).await;
                    drop(counted);
                    if begun.elapsed() > self.config.max_pause.0 {
                        self.pauses.worked(&self.way, dialled);
                    }
                    match ended {
                        Ok(()) => return,
                        Err(reason) => reason,
                    }
                }
                Ok(Err(reason)) => reason,
                Err(_) => format!("it did not accept the feed within {limit:?}"),
            };
            metrics::counter!("crest_forward_failures_total").increment(1);
            let pause = self.pauses.failed(&self.way, &reason, Instant::now());
            tracing::warn!(%stream_id, url, reason, ?pause, "the feed is not relayed; it is tried again");
            self.wait(reason);
        }
    }

    /// The server is not connected to, and why.
    fn wait(&self, reason: String) {
        self.line.failed(reason, now());
        self.board.changed(&self.way.stream);
    }

    /// Sends what waits, until the publisher is gone and all is sent, or the time for that is over; an error is why the
    /// server is.
    async fn relay(&self, client: Client) -> Result<(), String> {
        let late = async {
            self.line.over.cancelled().await;
            tokio::time::sleep(self.config.timeout.0).await;
        };
        tokio::select! {
            ended = self.feed(client) => ended,
            () = late => Ok(()),
        }
    }

    /// As slowly as the server likes: that it takes anything at all is for the connection to see.
    async fn feed(&self, mut client: Client) -> Result<(), String> {
        loop {
            tokio::select! {
                // What the server says comes first: it may wait for an answer while there is always more to send.
                biased;
                message = client.next() => drop(client.heed(&message?).await?),
                () = self.line.over.cancelled() => break,
                tag = self.line.next() => self.send(&mut client, tag).await?,
            };
        }
        let rest = async {
            while let Some(tag) = self.line.pop() {
                self.send(&mut client, tag).await?;
            }
            client.end().await
        };
        // The publisher is gone: there is nobody to tell how that ended.
        let _ = rest.await;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "target_tests.rs"]
mod tests;
