//! A record as Kafka carries it: the stream is the key, the payload the value, and headers say the rest.
//!
//! | header | value |
//! |---|---|
//! | `schema-version` | of the payload, in decimal |
//! | `traceparent` | what it follows from, as W3C Trace Context writes it; may be missing |
//! | `claim` | the key of the object that is the payload, where that is too large; the value is empty then |

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crest_core::bus::Record;
use crest_core::topic::Topic;
use crest_core::{Error, Result, StreamId};

pub(crate) const VERSION: &str = "schema-version";
pub(crate) const TRACE: &str = "traceparent";
pub(crate) const CLAIM: &str = "claim";

/// The longest key.
const KEY_BYTES: usize = 16 << 10;

/// What a message holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// The record.
    Whole(Record),
    /// The record but for its payload, and the key of the object that is it.
    Claimed(Record, String),
    /// No record of this topic that this build could read, and why.
    Unreadable(String),
}

/// A message as it was found, to be set aside.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Raw {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Bytes,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// A key must fit beside the largest payload.
pub(crate) fn check_key(topic: Topic, record: &Record) -> Result<()> {
    match record.key.as_str().len() {
        length if length > KEY_BYTES => {
            Err(Error::user(format!("a key of {length} bytes is too long for the bus, on {}", topic.name())))
        }
        _ => Ok(()),
    }
}

/// Adds a header.
pub(crate) fn with(headers: OwnedHeaders, key: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

/// The headers of a record.
pub(crate) fn headers(record: &Record, claim: Option<&str>) -> OwnedHeaders {
    let count = 1 + usize::from(record.trace.is_some()) + usize::from(claim.is_some());
    let mut headers = OwnedHeaders::new_with_capacity(count);
    headers = match record.schema_version {
        1 => with(headers, VERSION, b"1"),
        version => with(headers, VERSION, version.to_string().as_bytes()),
    };
    if let Some(trace) = record.trace {
        headers = with(headers, TRACE, trace.to_string().as_bytes());
    }
    if let Some(claim) = claim {
        headers = with(headers, CLAIM, claim.as_bytes());
    }
    headers
}

/// A message as it was found.
pub(crate) fn raw(message: &BorrowedMessage<'_>) -> Raw {
    let mut headers = Vec::new();
    // Kafka's library expects that the names of headers are text, and panics where they are not.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        for header in message.headers().into_iter().flat_map(Headers::iter) {
            headers.push((header.key.to_owned(), header.value.unwrap_or_default().to_vec()));
        }
    }));
    Raw {
        key: message.key().unwrap_or_default().to_vec(),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        headers,
    }
}

/// What a message on `topic` holds.
pub(crate) fn read(topic: Topic, message: &BorrowedMessage<'_>) -> Content {
    let read = catch_unwind(AssertUnwindSafe(|| {
        let headers = message.headers().into_iter().flat_map(Headers::iter).map(|h| (h.key, h.value));
        decode(topic, message.key(), message.payload(), headers)
    }));
    read.unwrap_or_else(|_| Content::Unreadable("the name of one of its headers is not text".to_owned()))
}

fn decode<'a>(
    topic: Topic,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Content {
    let (mut version, mut trace, mut claim) = (None, None, None);
    for (name, value) in headers {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        match name {
            VERSION => version = Some(text.and_then(|text| text.parse::<u16>().ok())),
            TRACE => trace = text.and_then(|text| text.parse().ok()),
            CLAIM => claim = Some(text.map(str::to_owned)),
            _ => {}
        }
    }
    let known = topic.schema_version();
    let no = |reason: String| Content::Unreadable(reason);
    let version = match version {
        None => return no(format!("it has no header {VERSION}: crest did not write it")),
        Some(None) => return no(format!("its header {VERSION} is not a number")),
        Some(Some(found)) if found > known => {
            return no(format!("its schema version is {found}, this build reads up to {known}"));
        }
        Some(Some(found)) => found,
    };
    let Some(key) = key else { return no("it has no key, which names its stream".to_owned()) };
    let Ok(key) = std::str::from_utf8(key) else { return no("its key is not text".to_owned()) };
    let record = |payload| Record { key: StreamId::from_raw(key), schema_version: version, trace, payload };
    match claim {
        None => Content::Whole(record(Bytes::copy_from_slice(value.unwrap_or_default()))),
        Some(Some(claim)) => Content::Claimed(record(Bytes::new()), claim),
        Some(None) => no(format!("its header {CLAIM} is not text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Topic = Topic::Signals;

    fn found(key: Option<&[u8]>, headers: &OwnedHeaders) -> Content {
        decode(T, key, Some(b"payload"), headers.iter().map(|h| (h.key, h.value)))
    }

    #[test]
    fn a_record_comes_back() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok();
        let record = Record::new(T, StreamId::from_raw("str_a"), "payload").traced(trace);
        assert_eq!(found(Some(b"str_a"), &headers(&record, None)), Content::Whole(record.clone()));
        let claimed = headers(&record, Some("claims/a"));
        let without = Record { payload: Bytes::new(), ..record };
        assert_eq!(found(Some(b"str_a"), &claimed), Content::Claimed(without, "claims/a".to_owned()));
    }

    #[test]
    fn what_is_no_record_says_why() {
        let header = |name, value: &[u8]| with(OwnedHeaders::new(), name, value);
        let good = header(VERSION, b"1");
        for (key, headers, why) in [
            (Some(&b"a"[..]), OwnedHeaders::new(), "no header"),
            (Some(b"a"), header("other", b"1"), "no header"),
            (Some(b"a"), header(VERSION, b"one"), "not a number"),
            (Some(b"a"), header(VERSION, b"2"), "schema version is 2"),
            (Some(b"a"), header(VERSION, b"99999999"), "not a number"),
            (None, good.clone(), "no key"),
            (Some(b"\xff"), good.clone(), "not text"),
            (Some(b"a"), with(good.clone(), CLAIM, b"\xff"), "not text"),
        ] {
            let found = found(key, &headers);
            assert!(matches!(&found, Content::Unreadable(reason) if reason.contains(why)), "{why}: {found:?}");
        }
        // A trace is for those who watch: a wrong one is none.
        let odd = with(good, TRACE, b"nonsense");
        assert!(matches!(found(Some(b"a"), &odd), Content::Whole(Record { trace: None, .. })));
    }
}
