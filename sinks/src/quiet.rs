//! Keeps a failure that repeats from flooding the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lets one message through per second.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: Mutex<Option<Instant>>,
}

impl Quiet {
    /// Whether it may be said now.
    pub(crate) fn may_speak(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let silent = last.is_some_and(|at| now.duration_since(at) < Duration::from_secs(1));
        if !silent {
            *last = Some(now);
        }
        !silent
    }
}
