//! A stored record's bytes: schema version (2), key length (2), key, payload, checksum (8); numbers
//! are big-endian, the checksum is XXH3-64 over everything before it.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crest_core::bus::Record;
use crest_core::topic::Topic;
use crest_core::{Error, Result, StreamId};

const CHECKSUM: usize = 8;

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
    let mut out = Vec::with_capacity(4 + key.len() + record.payload.len() + CHECKSUM);
    out.extend_from_slice(&record.schema_version.to_be_bytes());
    out.extend_from_slice(&key_bytes.to_be_bytes());
    out.extend_from_slice(key);
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
    let (found, known) = (u16::from_be_bytes(*version), topic.schema_version());
    if found > known {
        return Err(Unreadable::Newer { found, known });
    }
    let (key, payload) =
        rest.split_at_checked(usize::from(u16::from_be_bytes(*key_bytes))).ok_or(Unreadable::Malformed)?;
    let key = std::str::from_utf8(key).map_err(|_| Unreadable::Malformed)?;
    Ok(Record { key: StreamId::from_raw(key), schema_version: found, payload: Bytes::copy_from_slice(payload) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_any_damage_shows() -> Result<()> {
        let record = Record::new(Topic::Signals, StreamId::from_raw("str_a"), Bytes::from_static(b"payload"));
        let bytes = encode(&record)?;
        assert_eq!(decode(Topic::Signals, &bytes), Ok(record));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(Topic::Signals, &damaged), Err(Unreadable::Damaged), "byte {at}");
            assert!(decode(Topic::Signals, &bytes[..at]).is_err(), "cut at {at}");
        }
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
