//! Settings of the spill log.

use bytesize::ByteSize;
use serde::Deserialize;
use std::time::Duration;

use crest_core::units::Span;
use crest_core::{Error, Result};

/// Settings of the log that keeps records while the bus is away (`bus.spill`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpillConfig {
    /// Bytes of records that may wait on this machine for the bus; beyond that they are refused, so that
    /// whoever sends them waits or is told. At least 1 MB.
    pub max_bytes: ByteSize,
    /// How long the bus may take to acknowledge records before they are kept here; from 100 ms to 60 s.
    pub after: Span,
    /// Pause before the bus is tried again while it is away; from 10 ms to 60 s.
    pub retry: Span,
    /// How often what is kept here is brought to the disk: what a loss of power may take. (A crash of the
    /// process takes nothing.) From 1 ms to 60 s.
    pub sync: Span,
}

impl Default for SpillConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::gb(4),
            after: Span::secs(3),
            retry: Span::secs(1),
            sync: Span(Duration::from_millis(100)),
        }
    }
}

impl SpillConfig {
    /// Fails where a setting is outside its bounds, and names it.
    pub fn check(&self) -> Result<()> {
        if self.max_bytes < ByteSize::mb(1) {
            return Err(Error::user("bus.spill.max_bytes must be at least 1MB"));
        }
        let spans = [("after", self.after, 100), ("retry", self.retry, 10), ("sync", self.sync, 1)];
        for (name, Span(span), least) in spans {
            if span < Duration::from_millis(least) || span > Duration::from_secs(60) {
                return Err(Error::user(format!("bus.spill.{name} must be from {least}ms to 60s")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_what_is_outside_is_named() {
        let good = SpillConfig::default();
        assert_eq!(good.check(), Ok(()));
        let wrong = [
            ("max_bytes", SpillConfig { max_bytes: ByteSize::b(0), ..good.clone() }),
            ("after", SpillConfig { after: Span(Duration::ZERO), ..good.clone() }),
            ("retry", SpillConfig { retry: Span::secs(61), ..good.clone() }),
            ("sync", SpillConfig { sync: Span::secs(100), ..good }),
        ];
        for (name, config) in wrong {
            assert!(config.check().is_err_and(|e| e.message.contains(&format!("bus.spill.{name}"))), "{name}");
        }
    }
}
