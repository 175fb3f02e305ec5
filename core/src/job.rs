//! Background work: one type for all of it.

use serde::{Deserialize, Serialize};

use crate::id::{JobId, OrganizationId};
use crate::time::WallTime;
use crate::trace::Trace;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Cuts the clip and the thumbnail of one highlight.
    Clip,
    /// Runs a batch of files.
    Batch,
}

impl JobKind {
    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Batch => "batch",
        }
    }
}

/// `queued -> running -> done | failed | cancelled`; a running job whose lease runs out is queued
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for its turn.
    Queued,
    /// Leased by a worker.
    Running,
    /// Finished.
    Done,
    /// Given up, with a reason.
    Failed,
    /// Not wanted any more.
    Cancelled,
}

impl JobState {
    /// Its name in the API and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
    /// Whether a job may go from here to `next`.
    pub const fn can_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Queued, Self::Running | Self::Cancelled)
                | (Self::Running, Self::Queued | Self::Done | Self::Failed | Self::Cancelled)
        )
    }
}

/// One piece of background work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Derived from kind and subject.
    pub id: JobId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// What is to be done.
    pub kind: JobKind,
    /// Id of what it is about: for a clip, the highlight.
    pub subject: String,
    /// Attempts so far, this one included.
    pub attempt: u32,
    /// When the lease runs out. It tells this lease from a later one.
    pub leased_until: WallTime,
    /// What it follows from.
    pub trace: Option<Trace>,
}
