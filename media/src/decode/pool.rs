//! The pool that decodes the keyframes of all streams.

use crest_core::codec::{Packet, VideoConfig};
use crest_core::sample::Picture;
use crest_core::{Error, Result};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use super::keyframes::KeyframeDecoder;
use super::video::MAX_PIXELS;

/// A decoder that was not used for so long is let go: it holds the memory of several pictures. Keyframes are rarely
/// further apart.
const UNUSED: Duration = Duration::from_secs(20);

/// Size of the pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyframePoolConfig {
    /// Threads that decode; at least one.
    pub workers: usize,
    /// Keyframes that may wait, of all streams together: no stream has more than one in it, and many have theirs at the
    /// same moment.
    pub queue: usize,
    /// The largest picture that is decoded, in pixels as they are coded: a keyframe that announces more is no
    /// picture. The default is more than 8K has.
    pub max_pixels: u64,
}

impl Default for KeyframePoolConfig {
    fn default() -> Self {
        Self { workers: 2, queue: 512, max_pixels: MAX_PIXELS }
    }
}

/// Decodes keyframes on a few threads of its own. Clones share them; the threads end with the last clone.
#[derive(Debug, Clone)]
pub struct KeyframePool {
    tasks: flume::Sender<Task>,
}

#[derive(Debug)]
struct Task {
    config: Arc<VideoConfig>,
    packet: Packet,
    reply: oneshot::Sender<Result<Picture>>,
}

impl KeyframePool {
    /// Starts the threads.
    pub fn new(config: &KeyframePoolConfig) -> Result<Self> {
        let (tasks, queue) = flume::bounded(config.queue.max(1));
        for number in 0..config.workers.max(1) {
            let queue = queue.clone();
            let mut decoder = KeyframeDecoder::of_at_most(config.max_pixels)?;
            std::thread::Builder::new()
                .name(format!("keyframes-{number}"))
                .spawn(move || work(&queue, &mut decoder))
                .map_err(|e| Error::outside(format!("cannot start a decoding thread: {e}")))?;
        }
        Ok(Self { tasks })
    }

    /// Queues a keyframe. `None` when the queue is full: the caller counts a drop. The receiver resolves to the
    /// picture, or to why there is none; dropping it before its turn saves the work.
    pub fn submit(&self, config: &Arc<VideoConfig>, packet: &Packet) -> Option<oneshot::Receiver<Result<Picture>>> {
        let (reply, picture) = oneshot::channel();
        let task = Task { config: Arc::clone(config), packet: packet.clone(), reply };
        self.tasks.try_send(task).ok().map(|()| picture)
    }
}

fn work(queue: &flume::Receiver<Task>, decoder: &mut KeyframeDecoder) {
    loop {
        decoder.let_go(UNUSED);
        let task = match queue.recv_timeout(UNUSED) {
            Ok(task) => task,
            Err(flume::RecvTimeoutError::Timeout) => continue,
            Err(flume::RecvTimeoutError::Disconnected) => return,
        };
        if task.reply.is_closed() {
            continue;
        }
        let picture = decoder.decode(&task.config, &task.packet);
        let result = if picture.is_ok() { "ok" } else { "failed" };
        metrics::counter!("crest_keyframes_decoded_total", "result" => result).increment(1);
        let _ = task.reply.send(picture);
    }
}
