//! The way from a publisher to one server: what waits, and how the server is doing.

use crest_core::WallTime;
use crest_core::stream::{ForwardState, ForwardStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::queue::Queue;
use super::tag::Tag;

/// The messages for one server, and what is told of it.
pub(super) struct Line {
    inner: Mutex<Inner>,
    /// Something waits.
    filled: Notify,
    /// Cancelled when the publisher is gone: what waits is still sent.
    pub(super) over: CancellationToken,
}

struct Inner {
    queue: Queue,
    /// Whether somebody is about to take what waits, or takes it: otherwise nothing does.
    awaited: bool,
    /// The publisher has sent something.
    begun: bool,
    status: ForwardStatus,
}

impl Line {
    pub(super) fn new(queue: Queue, now: WallTime) -> Self {
        let status = ForwardStatus { state: ForwardState::Connecting, reason: None, since: now };
        let inner = Mutex::new(Inner { queue, awaited: true, begun: false, status });
        Self { inner, filled: Notify::new(), over: CancellationToken::new() }
    }

    /// Takes a message on its way to the server; never waits.
    pub(super) fn push(&self, tag: Tag) {
        let mut inner = self.lock();
        inner.begun = true;
        let (dropped, cause) = match inner.awaited {
            true => (inner.queue.push(tag), "slow"),
            false => (inner.queue.pass(&tag), "away"),
        };
        drop(inner);
        count_dropped(dropped, cause);
        self.filled.notify_one();
    }

    /// Returns when the publisher has sent something.
    pub(super) async fn begun(&self) {
        loop {
            let filled = self.filled.notified();
            if self.lock().begun {
                return;
            }
            filled.await;
        }
    }

    /// The next message to send. Dropped before it has come, nothing is lost.
    pub(super) async fn next(&self) -> Tag {
        loop {
            let filled = self.filled.notified();
            if let Some(tag) = self.pop() {
                return tag;
            }
            filled.await;
        }
    }

    /// The next message to send, if one waits.
    pub(super) fn pop(&self) -> Option<Tag> {
        self.lock().queue.pop()
    }

    /// The server is about to be connected to: its feed waits from now on, so that it gets the beginning too.
    pub(super) fn open(&self) {
        self.lock().awaited = true;
    }

    /// The server takes the feed.
    pub(super) fn live(&self, now: WallTime) {
        self.lock().status = ForwardStatus { state: ForwardState::Live, reason: None, since: now };
    }

    /// The server failed. What waits for it is dropped, and nothing waits until [`Line::open`].
    pub(super) fn failed(&self, reason: String, now: WallTime) {
        let mut inner = self.lock();
        let since = if inner.status.state == ForwardState::Waiting { inner.status.since } else { now };
        inner.status = ForwardStatus { state: ForwardState::Waiting, reason: Some(reason), since };
        inner.awaited = false;
        let dropped = inner.queue.begin_again();
        drop(inner);
        count_dropped(dropped, "away");
    }

    pub(super) fn status(&self) -> ForwardStatus {
        self.lock().status.clone()
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().queue.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_dropped(count: u64, cause: &'static str) {
    if count > 0 {
        metrics::counter!("crest_forward_dropped_total", "cause" => cause).increment(count);
    }
}
