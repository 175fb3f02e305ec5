//! Settings of the embedded bus.

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};
use std::time::Duration;

use crest_core::units::Span;
use crest_core::{Error, Result};

/// Settings of the embedded bus; all of them are bounds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// Records a media topic keeps of one stream.
    pub ring_records: usize,
    /// Bytes a media topic keeps in all. Configuration writes it with its unit: `64MiB`.
    #[serde(deserialize_with = "size")]
    pub ring_bytes: usize,
    /// How often what was appended is brought to the disk: what a loss of power may take. (A crash of
    /// the process takes nothing.)
    pub sync: Span,
    /// After so long without anything new, what is held in memory beside the journal is written out and let go, where
    /// it is half a megabyte of a topic.
    pub quiet: Span,
    /// Records a durable topic keeps beside those that a group still has to acknowledge.
    pub retention_records: u64,
    /// Records that could not be read, kept per topic.
    pub dead_letters: usize,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            ring_records: 256,
            ring_bytes: 64 << 20,
            sync: Span(Duration::from_millis(100)),
            quiet: Span(Duration::from_secs(10)),
            retention_records: 1_000_000,
            dead_letters: 1_000,
        }
    }
}

impl BusConfig {
    pub(crate) fn check(&self) -> Result<()> {
        let zero = [
            ("ring_records", self.ring_records == 0),
            ("ring_bytes", self.ring_bytes == 0),
            ("sync", self.sync.0.is_zero()),
            ("quiet", self.quiet.0.is_zero()),
            ("retention_records", self.retention_records == 0),
            ("dead_letters", self.dead_letters == 0),
        ];
        match zero.iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(Error::user(format!("bus.embedded.{name} must be more than 0"))),
            None => Ok(()),
        }
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let size = ByteSize::deserialize(deserializer)?;
    usize::try_from(size.as_u64()).map_err(serde::de::Error::custom)
}
