//! Entrances for `fuzz/`: what must hold of a stored record, whatever its bytes.

use crest_core::topic::Topic;
use xxhash_rust::xxh3::xxh3_64;

use crate::embedded::frame::{decode, encode};

/// A byte (which topic; bit 7: with the checksum that belongs to it), and the record.
pub fn record(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let topic = Topic::ALL[usize::from(kind & 0x7f) % Topic::ALL.len()];
    let mut bytes = bytes.to_vec();
    if kind & 0x80 != 0 {
        bytes.extend_from_slice(&xxh3_64(&bytes).to_be_bytes());
    }
    let Ok(record) = decode(topic, &bytes) else { return };
    assert!(record.schema_version <= topic.schema_version());
    let again = encode(&record).unwrap_or_else(|e| panic!("a record that was read cannot be written: {e}"));
    assert_eq!(again, bytes, "a record has one spelling");
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs_pass() {
        super::replay::replay("bus_record", super::record);
    }
}
