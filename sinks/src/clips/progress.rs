//! What this process remembers of jobs that it will see again.
//!
//! A job that waits for media is put back and leased many times, so its own count of attempts says
//! nothing about how often cutting failed. Losing this memory in a restart costs some patience only.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crest_core::{JobId, WallTime};

/// More jobs than this are not remembered; the oldest are forgotten.
const MOST: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: WallTime,
    failures: u32,
}

/// When each unfinished job was first seen, and how often it failed.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    jobs: Mutex<HashMap<JobId, Seen>>,
}

impl Progress {
    /// When the job was first seen: `now`, if this is the first time.
    pub(crate) fn first_seen(&self, id: &JobId, now: WallTime) -> WallTime {
        let mut jobs = self.lock();
        if !jobs.contains_key(id) && jobs.len() >= MOST {
            let oldest = jobs.iter().min_by_key(|(_, seen)| seen.first).map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                jobs.remove(&oldest);
            }
        }
        jobs.entry(id.clone()).or_insert(Seen { first: now, failures: 0 }).first
    }

    /// Counts a failure and returns how many there were.
    pub(crate) fn failed(&self, id: &JobId, now: WallTime) -> u32 {
        let mut jobs = self.lock();
        let seen = jobs.entry(id.clone()).or_insert(Seen { first: now, failures: 0 });
        seen.failures = seen.failures.saturating_add(1);
        seen.failures
    }

    /// The job is over.
    pub(crate) fn forget(&self, id: &JobId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Seen>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
