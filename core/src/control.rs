//! What processes tell each other about streams, on the topic `control`. It makes things happen sooner; what
//! is true stands in the store.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{OrganizationId, StreamId};
use crate::instance::InstanceId;
use crate::time::Session;

/// One record of the topic, as JSON: `{"type":"stop","stream_id":"str_.."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Control {
    /// Whoever feeds the stream, or waits for its publisher, ends it.
    Stop {
        /// The stream.
        stream_id: StreamId,
    },
    /// The process that the stream names as its own begins to pull it.
    Pull {
        /// The tenant.
        organization_id: OrganizationId,
        /// The stream.
        stream_id: StreamId,
    },
    /// The stream has another key: a publisher that came in with the one before is disconnected.
    Rekeyed {
        /// The tenant.
        organization_id: OrganizationId,
        /// The stream.
        stream_id: StreamId,
    },
    /// A session began: whoever fed an earlier one of the stream has been followed by another process.
    Session {
        /// The stream.
        stream_id: StreamId,
        /// The session that began.
        session: Session,
        /// The process that feeds it.
        instance: InstanceId,
    },
}

impl Control {
    /// The stream that it is about, which is also the key of its record.
    pub const fn stream_id(&self) -> &StreamId {
        match self {
            Self::Stop { stream_id }
            | Self::Pull { stream_id, .. }
            | Self::Rekeyed { stream_id, .. }
            | Self::Session { stream_id, .. } => stream_id,
        }
    }

    /// The payload of its record.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::ours(format!("a control record cannot be written: {e}")))
    }

    /// Reads a payload back.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        serde_json::from_slice(payload).map_err(|e| Error::user(format!("not a control record: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_documented_and_comes_back() {
        let stream_id = StreamId::from_raw("str_a");
        let stop = Control::Stop { stream_id: stream_id.clone() };
        let text = stop.encode().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(text.as_deref(), Ok(r#"{"type":"stop","stream_id":"str_a"}"#));
        let organization_id = OrganizationId::from_raw("org_a");
        let rekeyed = Control::Rekeyed { organization_id, stream_id: stream_id.clone() };
        let began = Control::Session { stream_id, session: Session::new(2), instance: InstanceId::from_raw("ins_b") };
        for record in [stop, rekeyed, began] {
            assert_eq!(record.encode().and_then(|bytes| Control::decode(&bytes)), Ok(record));
        }
        for wrong in ["", "{}", "[]", r#"{"type":"start","stream_id":"str_a"}"#, r#"{"type":"stop"}"#] {
            assert!(Control::decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
