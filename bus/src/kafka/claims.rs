//! Payloads that are too large for a record lie in the object storage, under
//! `claims/<topic>/<hour>/<checksum>`. They are there before the record is, and go when no record that
//! names them is kept any more.

use bytes::{Bytes, BytesMut};
use crest_core::objects::SharedObjects;
use crest_core::{Error, Result};
use futures::StreamExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_128;

/// How long an object is kept beyond its record: clocks differ, and what is appended late is read later.
const MARGIN_HOURS: u64 = 24;

/// Why a payload is not to be had.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Unclaimed {
    /// It never will be.
    Gone(String),
    /// It may be later.
    Later(Error),
}

pub(crate) struct Claims {
    objects: SharedObjects,
}

/// Hours since the epoch. Decides only when an object is removed.
fn hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 3600)
}

fn folder(topic: &str) -> String {
    format!("claims/{topic}/")
}

impl Claims {
    pub(crate) fn new(objects: SharedObjects) -> Self {
        Self { objects }
    }

    /// Puts a payload away; where it lies. `topic` is the name in the cluster.
    pub(crate) async fn put(&self, topic: &str, payload: Bytes) -> Result<String> {
        let key = format!("{}{}/{:032x}", folder(topic), hour(), xxh3_128(&payload));
        let put = self.objects.put(&key, payload).await;
        // Wrong credentials may be mended, too, and what is to be appended must not be lost until then.
        put.map_err(|e| Error {
            retryable: true,
            ..e.context("a payload too large for the bus cannot be put into the object storage")
        })?;
        Ok(key)
    }

    /// The payload that a record of `topic` claims.
    pub(crate) async fn get(&self, topic: &str, key: &str) -> Result<Bytes, Unclaimed> {
        let gone = |why: &str| Unclaimed::Gone(format!("its payload, the object {key}, {why}"));
        // Whoever writes to the topic is not to choose the object.
        let checksum = Self::checksum(topic, key).ok_or_else(|| gone("is none of this topic's"))?;
        let read = async {
            let Some(size) = self.objects.size(key).await? else { return Ok(None) };
            let whole = usize::try_from(size).ok().filter(|size| *size <= crate::MAX_PAYLOAD_BYTES);
            let Some(size) = whole else { return Ok(Some(None)) };
            let mut payload = BytesMut::with_capacity(size);
            let mut parts = self.objects.read(key, 0..size as u64).await?;
            while let Some(part) = parts.next().await {
                payload.extend_from_slice(&part?);
                if payload.len() > size {
                    return Err(Error::outside(format!("the object {key} is longer than it was said to be")));
                }
            }
            Ok(Some(Some(payload.freeze())))
        };
        match read.await {
            Ok(Some(Some(payload))) if xxh3_128(&payload) == checksum => Ok(payload),
            Ok(Some(Some(_))) => Err(gone("is damaged: its checksum is wrong")),
            Ok(Some(None)) => Err(gone("is too large to be one")),
            Ok(None) => Err(gone("is not in the object storage")),
            Err(error) => {
                let doing = "a payload that the bus refers to cannot be read from the object storage (storage.url)";
                Err(Unclaimed::Later(Error { retryable: true, ..error.context(doing) }))
            }
        }
    }

    fn checksum(topic: &str, key: &str) -> Option<u128> {
        let (hour, checksum) = key.strip_prefix(&folder(topic))?.split_once('/')?;
        hour.parse::<u64>().ok()?;
        (checksum.len() == 32).then(|| u128::from_str_radix(checksum, 16).ok())?
    }

    /// Removes what no record of `topic` can refer to any more; how many.
    pub(crate) async fn remove_old(&self, topic: &str, retention: Duration) -> Result<u64> {
        let folder = folder(topic);
        let kept = hour().saturating_sub(retention.as_secs() / 3600 + MARGIN_HOURS);
        let mut found = self.objects.list(&folder).await?;
        let mut removed = 0;
        while let Some(object) = found.next().await {
            let (key, _) = object?;
            let hour = key.strip_prefix(&folder).and_then(|rest| rest.split_once('/')?.0.parse::<u64>().ok());
            if hour.is_some_and(|hour| hour < kept) {
                self.objects.delete(&key).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_claim_of_the_topic_is_one() {
        let checksum = format!("{:032x}", 7);
        assert_eq!(Claims::checksum("signals", &format!("claims/signals/480000/{checksum}")), Some(7));
        for wrong in [
            format!("claims/marks/480000/{checksum}"),
            format!("claims/signals/../480000/{checksum}"),
            format!("claims/signals/480000/../{checksum}"),
            format!("claims/signals/{checksum}"),
            "claims/signals/480000/7".to_owned(),
            format!("media/org/{checksum}"),
        ] {
            assert_eq!(Claims::checksum("signals", &wrong), None, "{wrong}");
        }
    }
}
