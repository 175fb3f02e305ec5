//! A highlight and the states it goes through.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::id::{HighlightId, OrganizationId, StreamId};
use crate::time::{MediaTime, Session};

/// `provisional -> final -> ready | failed`, or `deleted` with a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HighlightState {
    /// Raised by the fastest modalities; the slow ones have not spoken.
    Provisional,
    /// Decided; its bounds do not change any more.
    Final,
    /// Its clip can be played.
    Ready,
    /// Its clip could not be made.
    Failed,
    /// Withdrawn.
    Deleted,
}

impl HighlightState {
    /// Its name in the API and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Final => "final",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }
    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Provisional, Self::Final, Self::Ready, Self::Failed, Self::Deleted]
            .into_iter()
            .find(|s| s.name() == name)
    }
    /// Whether a highlight may go from here to `next`.
    pub const fn can_become(self, next: Self) -> bool {
        use HighlightState::{Deleted, Failed, Final, Provisional, Ready};
        matches!(
            (self, next),
            (Provisional, Provisional | Final | Deleted)
                | (Final, Ready | Failed | Deleted)
                | (Ready | Failed, Deleted)
                | (Failed, Ready)
        )
    }
}

/// How much one signal contributed to a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Factor {
    /// The signal's name.
    pub signal: String,
    /// Its share of the score, in score units; the shares add up to the score.
    pub contribution: f64,
}

/// A highlight as fusion decides it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Highlight {
    /// Derived from stream, session and entry bucket; fixed at first detection.
    pub id: HighlightId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The stream.
    pub stream_id: StreamId,
    /// The session whose timeline the times are on.
    pub session: Session,
    /// Where it is in its life.
    pub state: HighlightState,
    /// 1 at first detection, one more with each change that is told to the outside.
    pub revision: u64,
    /// First instant.
    pub start: MediaTime,
    /// Last instant. Provisional: as far as is known.
    pub end: MediaTime,
    /// The best instant, after correction for the lag of chat.
    pub peak: MediaTime,
    /// 0..1.
    pub score: f64,
    /// The highlight type's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Value of each dimension at the peak, 0..1.
    pub dimensions: BTreeMap<String, f64>,
    /// What made the score, largest first.
    pub factors: Vec<Factor>,
    /// Version of the dimension set that decided.
    pub dimension_set_version: u64,
    /// Why it was deleted or failed.
    pub reason: Option<String>,
}

/// What fusion says about a highlight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// First seen; `highlight.state` is provisional.
    Detected {
        /// The highlight.
        highlight: Highlight,
    },
    /// Still provisional, better known.
    Updated {
        /// The highlight.
        highlight: Highlight,
    },
    /// Final: a clip is to be made.
    Finalized {
        /// The highlight.
        highlight: Highlight,
    },
    /// Withdrawn.
    Deleted {
        /// The highlight as it was last, state `deleted`, with its reason.
        highlight: Highlight,
    },
}

impl Decision {
    /// The highlight it is about.
    pub fn highlight(&self) -> &Highlight {
        match self {
            Self::Detected { highlight }
            | Self::Updated { highlight }
            | Self::Finalized { highlight }
            | Self::Deleted { highlight } => highlight,
        }
    }
}

/// A highlight as the store keeps it: the decision, and where what was made of it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredHighlight {
    /// The decision.
    pub highlight: Highlight,
    /// Object key of the clip, once ready.
    pub clip: Option<String>,
    /// Object key of the thumbnail, once ready.
    pub thumbnail: Option<String>,
    /// Media seconds at which the clip's first frame lies (at or before `start`).
    pub clip_start: Option<MediaTime>,
    /// Length of the clip in nanoseconds.
    pub clip_duration: Option<MediaTime>,
    /// Wall-clock time of media time 0 of its session.
    pub session_started_at: crate::time::WallTime,
    /// When it was first detected.
    pub detected_at: crate::time::WallTime,
}

#[cfg(test)]
mod tests {
    use super::HighlightState::*;

    #[test]
    fn deleted_is_the_end_and_ready_needs_final() {
        for state in [Provisional, Final, Ready, Failed, Deleted] {
            assert!(!Deleted.can_become(state));
        }
        assert!(!Provisional.can_become(Ready));
        assert!(Final.can_become(Ready));
    }
}
