//! Typed identifiers. Ids of things that a user creates are drawn (UUIDv7); ids of everything that
//! crest decides are derived by hash, so that deciding again yields the same id.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

use crate::time::{Bucket, Session};

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The prefix that every id of this type starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Takes an id as it stands, from a database row or a request path.
            pub fn from_raw(raw: impl Into<String>) -> Self {
                Self(raw.into())
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type!(/// A tenant.
    OrganizationId, "org_");
id_type!(/// One connected or connectable feed.
    StreamId, "str_");
id_type!(/// One highlight, derived from stream, session and entry bucket.
    HighlightId, "hl_");
id_type!(/// One event, derived from organization, type, subject and revision.
    EventId, "evt_");
id_type!(/// A webhook endpoint that a tenant registered.
    EndpointId, "whe_");
id_type!(/// One event for one endpoint: the `webhook-id` header.
    WebhookId, "msg_");
id_type!(/// One piece of background work.
    JobId, "job_");

macro_rules! drawn {
    ($($name:ident),*) => {$(
        impl $name {
            /// Draws a new id, ordered by time of creation.
            pub fn draw() -> Self {
                Self(format!("{}{}", Self::PREFIX, uuid::Uuid::now_v7().simple()))
            }
        }
    )*};
}
drawn!(OrganizationId, StreamId, EndpointId);

impl HighlightId {
    /// The id of the highlight whose moment was entered at `entry`.
    pub fn derive(stream: &StreamId, session: Session, entry: Bucket) -> Self {
        Self(derived(Self::PREFIX, &[stream.as_str(), &session.number().to_string(), &entry.index().to_string()]))
    }
}

impl EventId {
    /// The id of the `revision`th event of `event_type` about `subject`.
    pub fn derive(organization: &OrganizationId, event_type: &str, subject: &str, revision: u64) -> Self {
        Self(derived(Self::PREFIX, &[organization.as_str(), event_type, subject, &revision.to_string()]))
    }
}

impl WebhookId {
    /// The id under which `endpoint` receives `event`, on the first attempt and on each repeat.
    pub fn derive(event: &EventId, endpoint: &EndpointId) -> Self {
        Self(derived(Self::PREFIX, &[event.as_str(), endpoint.as_str()]))
    }
}

impl JobId {
    /// The id of the `kind` job about `subject`.
    pub fn derive(kind: &str, subject: &str) -> Self {
        Self(derived(Self::PREFIX, &[kind, subject]))
    }
}

/// `prefix` and the first 128 bits of SHA-256 over the length-prefixed parts, in hexadecimal.
fn derived(prefix: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut out = String::with_capacity(prefix.len() + 32);
    out.push_str(prefix);
    for byte in &hash.finalize()[..16] {
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_moment_same_id_and_parts_do_not_run_together() {
        let stream = StreamId::from_raw("str_a");
        let a = HighlightId::derive(&stream, Session::new(1), Bucket::new(12));
        assert_eq!(a, HighlightId::derive(&stream, Session::new(1), Bucket::new(12)));
        assert_ne!(a, HighlightId::derive(&stream, Session::new(11), Bucket::new(2)));
        assert!(a.as_str().starts_with("hl_"));
    }
}
