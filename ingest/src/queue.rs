//! A ring between a feed and its sampler: bounded by count and bytes, drops its oldest, never makes
//! the feed wait.

use crest_core::codec::{AudioConfig, Packet, VideoConfig};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What came is handed on together as soon as the oldest has waited for so long, or the ring is half full: a task that
/// is woken for each packet costs more than the work of most. Samples are of 500 ms anyway.
const GATHER: Duration = Duration::from_millis(100);
/// How long an item may wait where no further one comes.
const STALE: Duration = Duration::from_millis(500);

/// What waits to be sampled.
#[derive(Debug)]
pub(crate) enum Item {
    Video(Arc<VideoConfig>, Packet),
    Audio(Arc<AudioConfig>, Packet),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Video(_, packet) | Self::Audio(_, packet) => packet.data.len(),
        }
    }
}

#[derive(Debug, Default)]
struct Inside {
    /// Each with when it came.
    items: VecDeque<(Instant, Item)>,
    bytes: usize,
    closed: bool,
}

/// The ring; one reader.
#[derive(Debug)]
pub(crate) struct Ring {
    inside: Mutex<Inside>,
    changed: Notify,
    max_items: usize,
    max_bytes: usize,
}

impl Ring {
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Self {
        Self { inside: Mutex::default(), changed: Notify::new(), max_items: max_items.max(1), max_bytes }
    }

    /// Adds an item, and returns how many old ones had to go.
    pub(crate) fn push(&self, item: Item) -> u64 {
        let now = Instant::now();
        let mut dropped = 0;
        let mut inside = self.lock();
        inside.bytes += item.bytes();
        inside.items.push_back((now, item));
        while inside.items.len() > self.max_items || (inside.bytes > self.max_bytes && inside.items.len() > 1) {
            let Some((_, old)) = inside.items.pop_front() else { break };
            inside.bytes -= old.bytes();
            dropped += 1;
        }
        // A feed that stops arriving leaves less than that behind, until it goes on or the ring is closed.
        let waited = inside.items.front().is_some_and(|(came, _)| now.duration_since(*came) >= GATHER);
        let due = waited || inside.items.len() > self.max_items / 2 || inside.bytes > self.max_bytes / 2;
        drop(inside);
        if due {
            self.changed.notify_one();
        }
        dropped
    }

    /// Lets the reader take what is left, and nothing after it.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The oldest item, and when it came; `None` once the ring is closed and empty.
    pub(crate) async fn pop(&self) -> Option<(Instant, Item)> {
        loop {
            {
                let mut inside = self.lock();
                if let Some((came, item)) = inside.items.pop_front() {
                    inside.bytes -= item.bytes();
                    return Some((came, item));
                }
                if inside.closed {
                    return None;
                }
            }
            // What is too little to be due by itself waits no longer than this.
            let _ = tokio::time::timeout(STALE, self.changed.notified()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;
    use crest_core::MediaTime;
    use crest_core::codec::AudioCodec;

    fn item(at: i64, bytes: usize) -> Item {
        let config = AudioConfig { codec: AudioCodec::Aac, record: Bytes::new(), sample_rate: 48_000, channels: 2 };
        let at = MediaTime::from_millis(at);
        Item::Audio(Arc::new(config), Packet { pts: at, dts: at, keyframe: true, data: vec![0; bytes].into() })
    }

    async fn times(ring: &Ring) -> Vec<i64> {
        let mut times = Vec::new();
        while let Some((_, Item::Audio(_, packet))) = ring.pop().await {
            times.push(packet.dts.nanos() / 1_000_000);
        }
        times
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_before_anything_has_to_go() {
        let ring = Arc::new(Ring::new(8, 1000));
        let reader = tokio::spawn({
            let ring = Arc::clone(&ring);
            async move { times(&ring).await }
        });
        let mut dropped = 0;
        for at in 0..100 {
            dropped += ring.push(item(at, 1));
            tokio::task::yield_now().await;
        }
        ring.close();
        assert_eq!(dropped, 0);
        assert_eq!(reader.await.unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_oldest_go_first_by_count_and_by_bytes() {
        let ring = Ring::new(3, 100);
        assert_eq!((0..5).map(|at| ring.push(item(at, 10))).sum::<u64>(), 2);
        assert_eq!(ring.push(item(5, 85)), 2);
        ring.close();
        assert_eq!(times(&ring).await, [4, 5]);

        let ring = Ring::new(3, 100);
        assert_eq!(ring.push(item(1, 500)), 0, "one item always fits");
        assert_eq!(ring.push(item(2, 1)), 1);
        ring.close();
        assert_eq!(times(&ring).await, [2]);
    }
}
