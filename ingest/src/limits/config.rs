//! Settings of what feeds may take: of this process, of a tenant, and each by itself.

use crest_core::units::Span;
use serde::Deserialize;

/// What feeds may take. A rate is what arrives within a second by the clock of this machine, however the feed's
/// own timestamps go: whoever takes recordings faster than they play needs more of it. 0 is no limit.
///
/// Pixels are those of the coded picture, times the frames: what decoding costs. The operator's organization has
/// no quotas of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Feeds at a time in this process. Streams that are not fed do not count.
    pub feeds: usize,
    /// Pixels per second of all feeds of this process. The default is a thousand times 1080p60, more than the
    /// largest machines keep up with: set it to what this one does, some 60 times 1080p60 (125 million) per core.
    pub pixels_per_second: u64,
    /// Bits per second of all feeds of this process. The default is a network card of 10 Gbit/s.
    pub bits_per_second: u64,
    /// Feeds of one tenant at a time.
    pub tenant_feeds: usize,
    /// Pixels per second of one tenant's feeds.
    pub tenant_pixels_per_second: u64,
    /// Bits per second of one tenant's feeds.
    pub tenant_bits_per_second: u64,
    /// Pixels per second of one feed. The default is 8K at 60 frames.
    pub feed_pixels_per_second: u64,
    /// Bits per second of one feed. The default is more than encoders send for 8K.
    pub feed_bits_per_second: u64,
    /// The widest coded picture that is taken, in pixels.
    pub max_width: u32,
    /// The highest coded picture that is taken, in pixels.
    pub max_height: u32,
    /// For how long a feed may be over a rate: a publisher that stalled catches up. More than 0.
    pub burst: Span,
    /// A stream whose feed was cut off is not fed again before this.
    pub pause: Span,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            feeds: 1000,
            pixels_per_second: 125_000_000_000,
            bits_per_second: 10_000_000_000,
            tenant_feeds: 100,
            tenant_pixels_per_second: 12_500_000_000,
            tenant_bits_per_second: 1_000_000_000,
            feed_pixels_per_second: 2_300_000_000,
            feed_bits_per_second: 80_000_000,
            max_width: 8192,
            max_height: 8192,
            burst: Span::secs(10),
            pause: Span::secs(10),
        }
    }
}
