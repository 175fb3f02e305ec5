//! How often a publisher's configuration changes: each change begins a new file, so that one that changes all the time
//! would make files without end.

use std::time::{Duration, Instant};

/// Changes that are believed within [`WITHIN`].
const MOST: u32 = 20;
const WITHIN: Duration = Duration::from_secs(10);

/// Changes of configuration, counted afresh after a while.
#[derive(Debug)]
pub(crate) struct Changes {
    since: Instant,
    count: u32,
}

impl Changes {
    /// Of a publisher that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    /// Takes note of one; whether there are too many now.
    pub(crate) fn too_many(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) > WITHIN {
            *self = Self::new(now);
        }
        self.count += 1;
        self.count > MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_changes_are_believed_and_twenty_more_after_a_while() {
        let begin = Instant::now();
        let mut changes = Changes::new(begin);
        for round in 0..3 {
            let now = begin + round * (WITHIN + Duration::from_millis(1));
            assert!((0..MOST).all(|_| !changes.too_many(now)), "round {round}");
            assert!(changes.too_many(now), "round {round}");
        }
    }
}
