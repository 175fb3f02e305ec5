//! A stored record's bytes: schema version (2; bit 15: a trace follows the key), key length (2), key,
//! id (16) and span (8) of the trace where there is one, payload, checksum (8); numbers are big-endian,
//! the checksum is XXH3-64 over everything before it.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crest_core::bus::Record;
use crest_core::topic::Topic;
use crest_core::trace::Trace;
use crest_core::{Error, Result, StreamId};

const CHECKSUM: usize = 8;
const TRACE: usize = 24;
/// In the schema version: a trace follows the key. Builds that knew no traces refuse such a record as one
/// of a newer version.
const TRACED: u16 = 0x8000;

/// Why a stored record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("its checksum is wrong: the stored bytes are damaged")]
    Damaged,
    #[error("its bytes do not form a record")]
    Malformed,
    #[error("its schema version is {found}, this build reads up to {known}")]
    Newer { found: u16, known: u16 },
}

/// The bytes of a record. The key must be shorter than 64 KiB.
pub(crate) fn encode(record: &Record) -> Result<Vec<u8>> {
    let key = record.key.as_str().as_bytes();
    let key_bytes = u16::try_from(key.len())
        .map_err(|_| Error::user(format!("a key of {} bytes is too long for the bus", key.len())))?;
    if record.schema_version & TRACED != 0 {
        return Err(Error::ours(format!("the schema version {} is too high for the bus", record.schema_version)));
    }
    // One of zeros is none.
    let trace = record.trace.filter(|trace| trace.id() != [0; 16] && trace.span() != [0; 8]);
    let mut out = Vec::with_capacity(4 + key.len() + TRACE + record.payload.len() + CHECKSUM);
    out.extend_from_slice(&(record.schema_version | if trace.is_some() { TRACED } else { 0 }).to_be_bytes());
    out.extend_from_slice(&key_bytes.to_be_bytes());
    out.extend_from_slice(key);
    if let Some(trace) = trace {
        out.extend_from_slice(&trace.id());
        out.extend_from_slice(&trace.span());
    }
    out.extend_from_slice(&record.payload);
    out.extend_from_slice(&xxh3_64(&out).to_be_bytes());
    Ok(out)
}

/// The record in these bytes, if this build can read it.
pub(crate) fn decode(topic: Topic, bytes: &[u8]) -> Result<Record, Unreadable> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Unreadable::Malformed)?;
    if xxh3_64(body).to_be_bytes() != *checksum {
        return Err(Unreadable::Damaged);
    }
    let (version, rest) = body.split_first_chunk::<2>().ok_or(Unreadable::Malformed)?;
    let (key_bytes, rest) = rest.split_first_chunk::<2>().ok_or(Unreadable::Malformed)?;
    let version = u16::from_be_bytes(*version);
    let (found, known) = (version & !TRACED, topic.schema_version());
    if found > known {
        return Err(Unreadable::Newer { found, known });
    }
    let (key, rest) =
        rest.split_at_checked(usize::from(u16::from_be_bytes(*key_bytes))).ok_or(Unreadable::Malformed)?;
    let key = std::str::from_utf8(key).map_err(|_| Unreadable::Malformed)?;
    let (trace, payload) = if version & TRACED == 0 { (None, rest) } else { trace(rest)? };
    let payload = Bytes::copy_from_slice(payload);
    Ok(Record { key: StreamId::from_raw(key), schema_version: found, trace, payload })
}

/// The trace at the beginning of these bytes, and what follows it.
fn trace(bytes: &[u8]) -> Result<(Option<Trace>, &[u8]), Unreadable> {
    let (id, rest) = bytes.split_first_chunk::<16>().ok_or(Unreadable::Malformed)?;
    let (span, rest) = rest.split_first_chunk::<8>().ok_or(Unreadable::Malformed)?;
    if *id == [0; 16] || *span == [0; 8] {
        return Err(Unreadable::Malformed);
    }
    Ok((Some(Trace::new(*id, *span)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(Topic::Signals, StreamId::from_raw("str_a"), Bytes::from_static(b"payload"))
    }

    #[test]
    fn a_record_comes_back_and_any_damage_shows() -> Result<()> {
        for record in [record(), record().traced(Some(Trace::new([7; 16], [8; 8])))] {
            let bytes = encode(&record)?;
            assert_eq!(decode(Topic::Signals, &bytes), Ok(record));
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                assert_eq!(decode(Topic::Signals, &damaged), Err(Unreadable::Damaged), "byte {at}");
                assert!(decode(Topic::Signals, &bytes[..at]).is_err(), "cut at {at}");
            }
        }
        Ok(())
    }

    /// What version 0.1.0 wrote, byte for byte.
    #[test]
    fn a_record_from_before_there_were_traces_is_read_and_still_written_so() -> Result<()> {
        let mut stored = [0, 1, 0, 5].to_vec();
        stored.extend_from_slice(b"str_apayload");
        stored.extend_from_slice(&xxh3_64(&stored).to_be_bytes());
        assert_eq!(decode(Topic::Signals, &stored), Ok(record()));
        assert_eq!(encode(&record())?, stored);
        Ok(())
    }

    #[test]
    fn a_trace_of_zeros_is_none() -> Result<()> {
        let bytes = encode(&record().traced(Some(Trace::new([0; 16], [1; 8]))))?;
        assert_eq!(decode(Topic::Signals, &bytes), Ok(record()));
        let mut zeros = [0x80, 1, 0, 0].to_vec();
        zeros.extend_from_slice(&[0; TRACE]);
        zeros.extend_from_slice(&xxh3_64(&zeros).to_be_bytes());
        assert_eq!(decode(Topic::Signals, &zeros), Err(Unreadable::Malformed));
        Ok(())
    }

    #[test]
    fn a_newer_schema_and_a_lying_length_are_refused() -> Result<()> {
        let known = Topic::Marks.schema_version();
        let newer = Record { schema_version: known + 1, ..Record::new(Topic::Marks, StreamId::from_raw("a"), "x") };
        let refused = Err(Unreadable::Newer { found: known + 1, known });
        assert_eq!(decode(Topic::Marks, &encode(&newer)?), refused);
        let mut lying = [0, 1, 0, 200, b'a'].to_vec();
        lying.extend_from_slice(&xxh3_64(&lying).to_be_bytes());
        assert_eq!(decode(Topic::Marks, &lying), Err(Unreadable::Malformed));
        Ok(())
    }
}
