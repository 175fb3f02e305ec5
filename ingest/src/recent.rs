//! What happened to a stream a short while ago, as far as this process heard of it.

use crest_core::StreamId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Streams that are remembered; the one that was noted longest ago is forgotten first.
const MOST: usize = 1024;

/// Streams that were noted lately.
#[derive(Debug)]
pub(crate) struct Recent {
    noted: Mutex<HashMap<StreamId, Instant>>,
    keep: Duration,
}

impl Recent {
    /// Remembers each stream for so long.
    pub(crate) fn new(keep: Duration) -> Self {
        Self { noted: Mutex::default(), keep }
    }

    /// Notes it now.
    pub(crate) fn note(&self, id: &StreamId) {
        let mut noted = self.current();
        if noted.len() >= MOST && !noted.contains_key(id) {
            let oldest = noted.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone());
            oldest.map(|oldest| noted.remove(&oldest));
        }
        noted.insert(id.clone(), Instant::now());
    }

    /// Whether it was noted lately.
    pub(crate) fn knows(&self, id: &StreamId) -> bool {
        self.current().contains_key(id)
    }

    fn current(&self) -> MutexGuard<'_, HashMap<StreamId, Instant>> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| at.elapsed() < self.keep);
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many_and_each_after_its_time() {
        let recent = Recent::new(Duration::from_secs(3600));
        let id = |n: usize| StreamId::from_raw(format!("str_{n}"));
        (0..=MOST).for_each(|n| recent.note(&id(n)));
        assert!(!recent.knows(&id(0)) && recent.knows(&id(1)) && recent.knows(&id(MOST)));
        let brief = Recent::new(Duration::ZERO);
        brief.note(&id(1));
        assert!(!brief.knows(&id(1)));
    }
}
