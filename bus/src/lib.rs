//! How records move between stages: the bus and its homes.
//!
//! [`EmbeddedBus`] serves one process from one directory; `kafka` serves many from Apache Kafka. [`Spill`]
//! stands in front of a bus that can be away and keeps meanwhile what must not be lost.

mod embedded;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod kafka;
mod spill;

use crest_core::bus::Record;
use crest_core::topic::Topic;
use crest_core::{Error, Result};

pub use embedded::{BusConfig, DeadLetter, EmbeddedBus, check, open};
pub use kafka::{KafkaBus, KafkaConfig};
pub use spill::{Spill, SpillConfig};

/// The largest payload of a record on any bus; larger things travel as references.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// The longest name of a group.
const NAME_BYTES: usize = 200;

/// A group's name must be short and printable.
fn check_group(group: &str) -> Result<()> {
    if group.is_empty() || group.len() > NAME_BYTES || group.contains(char::is_control) {
        return Err(Error::user(format!("a group's name has 1 to {NAME_BYTES} printable characters")));
    }
    Ok(())
}

/// No payload may be larger than [`MAX_PAYLOAD_BYTES`].
fn check_payloads(topic: Topic, records: &[Record]) -> Result<()> {
    match records.iter().find(|r| r.payload.len() > MAX_PAYLOAD_BYTES) {
        Some(large) => Err(Error::user(format!(
            "a payload of {} bytes is over the limit of {MAX_PAYLOAD_BYTES} on {}; send a reference instead",
            large.payload.len(),
            topic.name()
        ))),
        None => Ok(()),
    }
}

/// Counts what was appended.
fn count_appended(topic: Topic, records: u64, bytes: usize) {
    metrics::counter!("crest_bus_records_total", "topic" => topic.name()).increment(records);
    metrics::counter!("crest_bus_bytes_total", "topic" => topic.name()).increment(bytes as u64);
}
