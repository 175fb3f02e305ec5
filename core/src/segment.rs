//! Where encoded media lies: one entry per fragment of a segment file.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{OrganizationId, StreamId};
use crate::time::{MediaTime, Session};

/// One fragment (`moof` + `mdat`) of a fragmented MP4 segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The stream.
    pub stream_id: StreamId,
    /// The session whose timeline the times are on.
    pub session: Session,
    /// Object key of the segment file.
    pub object: String,
    /// Bytes of the file's header (`ftyp` + `moov`), which every fragment of it needs.
    pub header_bytes: u64,
    /// Where the fragment begins in the file.
    pub offset: u64,
    /// Bytes of the fragment.
    pub bytes: u64,
    /// Presentation time of its first frame.
    pub start: MediaTime,
    /// End of its last frame.
    pub end: MediaTime,
    /// Whether it starts at a keyframe (or carries no video at all).
    pub keyframe: bool,
}

impl Fragment {
    /// As the payload of `media.segments`.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
    /// From the payload of `media.segments`.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        serde_json::from_slice(payload).map_err(|e| Error::outside(format!("not a media.segments record: {e}")))
    }
}
