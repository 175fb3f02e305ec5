//! The processes that make up one crest.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::feeds::Addresses;
use crate::id::StreamId;
use crate::time::WallTime;

/// Names a process across its restarts: made once and kept in its data directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// What every one begins with.
    pub const PREFIX: &'static str = "ins_";

    /// Draws a new id.
    pub fn draw() -> Self {
        Self(format!("{}{}", Self::PREFIX, uuid::Uuid::now_v7().simple()))
    }

    /// The id in this text.
    pub fn from_raw(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A process and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its roles, comma-separated, as `--roles` takes them.
    pub roles: String,
    /// Where publishers connect to, where it takes feeds.
    pub addresses: Option<Addresses>,
    /// When it was last heard of.
    pub seen_at: WallTime,
}

impl Instance {
    /// Whether `ingest` is among its roles.
    pub fn takes_feeds(&self) -> bool {
        self.roles.split(',').any(|role| matches!(role, "all" | "ingest"))
    }
}

/// Which of the processes that are there pulls a stream: whoever asks gets the same answer, and each gets about
/// as many.
pub fn puller<'a>(stream: &StreamId, there: &'a [Instance]) -> Option<&'a Instance> {
    let turn: usize = stream.as_str().bytes().map(usize::from).sum();
    there.get(turn % there.len().max(1))
}

/// How often a process says that it is there.
pub const BEAT: Duration = Duration::from_secs(5);
/// A process that was not heard of for so long may be gone: nothing new is sent to it.
pub const QUIET: Duration = Duration::from_secs(15);
/// A process that was not heard of for so long is gone: others take over what it left.
pub const ABSENT: Duration = Duration::from_secs(30);

/// Which of the processes that take feeds were heard of when, by the clock of the one that listens: clocks of
/// different machines are not relied upon. Cheap to clone; all clones know the same.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<HashMap<InstanceId, Last>>>);

#[derive(Debug)]
struct Last {
    /// By its own clock.
    seen_at: WallTime,
    /// By ours, when we learned of it.
    at: Instant,
    /// How long ago that was already, as far as one can tell at the first look.
    before: Duration,
}

impl Heard {
    /// Notes what the store knows of the processes at `now`, which is `wall` by the wall clock.
    pub fn note(&self, instances: &[Instance], now: Instant, wall: WallTime) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|id, _| instances.iter().any(|instance| instance.id == *id && instance.takes_feeds()));
        for instance in instances.iter().filter(|instance| instance.takes_feeds()) {
            let before = Duration::from_millis(u64::try_from(wall.0.saturating_sub(instance.seen_at.0)).unwrap_or(0));
            let first = || Last { seen_at: instance.seen_at, at: now, before };
            let last = last.entry(instance.id.clone()).or_insert_with(first);
            if last.seen_at != instance.seen_at {
                *last = Last { seen_at: instance.seen_at, at: now, before: Duration::ZERO };
            }
        }
    }

    /// Whether nothing was heard of the process for [`ABSENT`], all of it within sight of this one. One that
    /// the store does not know is absent.
    pub fn absent(&self, id: &InstanceId, now: Instant) -> bool {
        self.silent(id, now, |_, silence| silence >= ABSENT)
    }

    /// Whether the process may be gone: nothing was heard of it for [`QUIET`], by its own clock if need be.
    pub fn quiet(&self, id: &InstanceId, now: Instant) -> bool {
        self.silent(id, now, |last, silence| silence.saturating_add(last.before) >= QUIET)
    }

    fn silent(&self, id: &InstanceId, now: Instant, judge: impl Fn(&Last, Duration) -> bool) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(id).is_none_or(|last| judge(last, now.saturating_duration_since(last.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, roles: &str, at: i64) -> Instance {
        Instance { id: InstanceId::from_raw(id), roles: roles.to_owned(), addresses: None, seen_at: WallTime(at) }
    }

    #[test]
    fn a_process_is_gone_when_it_was_silent_for_so_long_whatever_its_clock_says() {
        let (heard, start, wall) = (Heard::default(), Instant::now(), WallTime(1_000_000));
        let after = |seconds| start + Duration::from_secs(seconds);
        let (old, new) = (InstanceId::from_raw("ins_old"), InstanceId::from_raw("ins_new"));
        assert!(heard.absent(&old, start) && heard.quiet(&old, start), "nobody knows it");
        // One clock is far behind, the other ahead.
        heard.note(&[instance("ins_old", "all", 1), instance("ins_new", "ingest,api", i64::MAX - 9)], start, wall);
        assert!(heard.quiet(&old, start) && !heard.quiet(&new, after(14)));
        assert!(!heard.absent(&old, after(29)) && heard.absent(&old, after(30)));
        heard.note(&[instance("ins_old", "all", 2), instance("ins_new", "ingest", i64::MAX - 8)], after(10), wall);
        assert!(!heard.quiet(&old, after(24)) && heard.quiet(&old, after(25)), "it speaks, its clock is behind");
        assert!(!heard.absent(&old, after(39)) && heard.absent(&old, after(40)));
        heard.note(&[instance("ins_new", "api", i64::MAX - 7)], after(12), wall);
        assert!(heard.absent(&old, after(12)) && heard.absent(&new, after(12)), "forgotten, and without feeds");
    }
}
