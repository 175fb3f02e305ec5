//! Settings of feeds that are relayed.

use bytesize::ByteSize;
use crest_core::units::Span;
use serde::Deserialize;

/// How feeds are relayed to other servers. At which private addresses they may be is what `pull.allow_private` and
/// `pull.allow` say.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardConfig {
    /// Bytes that may wait for one server; what waits for several servers of a stream is in memory once. Above it,
    /// everything that waits is dropped up to the next keyframe.
    pub queue_bytes: ByteSize,
    /// Seconds of the feed that may wait for one server; above it likewise.
    pub queue: Span,
    /// Pause before a server that failed is tried again, and the least time between two connections to it, whoever
    /// publishes; it doubles with each, up to `max_pause`, and is drawn anew between half of that and all of it. A
    /// server that took the feed for longer than `max_pause`, or that nobody wanted to connect to for so long, begins
    /// anew.
    pub pause: Span,
    /// The longest pause between two tries.
    pub max_pause: Span,
    /// How long a server may take to accept the feed, and how long it may take nothing of it once it has; one that takes
    /// anything, however slowly, is kept. What still waits when the publisher leaves is sent within this time too.
    pub timeout: Span,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            queue_bytes: ByteSize::mib(16),
            queue: Span::secs(10),
            pause: Span::secs(1),
            max_pause: Span::secs(30),
            timeout: Span::secs(10),
        }
    }
}
