//! When servers may be connected to again. It is kept per stream and server from one publisher to the next: an encoder
//! that comes back all the time is no reason to ask a server as often.

use crest_core::StreamId;
use crest_core::stream::ForwardTarget;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use super::config::ForwardConfig;
use crate::pause::Pause;

/// A stream, and a server that it is relayed to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Way {
    pub(super) stream: StreamId,
    pub(super) server: ForwardTarget,
}

/// The pauses of all servers that were connected to lately: within the last one and the longest after it.
pub(super) struct Pauses {
    first: Duration,
    longest: Duration,
    turns: Mutex<HashMap<Way, Turn>>,
}

/// How a server's row of tries stands.
struct Turn {
    pause: Pause,
    /// When it was connected to last, and the pause that this was worth.
    dialled: Instant,
    wait: Duration,
    /// It is not connected to before then, and why.
    until: Instant,
    reason: String,
}

/// A server is not to be connected to yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PutOff {
    pub(super) until: Instant,
    pub(super) reason: String,
}

impl Pauses {
    pub(super) fn new(config: &ForwardConfig) -> Self {
        Self { first: config.pause.0, longest: config.max_pause.0, turns: Mutex::default() }
    }

    /// Takes note that the server is connected to now, unless that is too soon; returns by what [`Pauses::worked`]
    /// knows this time from others.
    pub(super) fn dial(&self, way: &Way, now: Instant) -> Result<Instant, PutOff> {
        let mut turns = self.lock();
        // Of a server that nobody wanted to connect to for so long the next failure is another one.
        turns.retain(|_, turn| now < turn.until + self.longest);
        let turn = match turns.entry(way.clone()) {
            Entry::Occupied(turn) if now < turn.get().until => {
                let Turn { until, reason, .. } = turn.get();
                return Err(PutOff { until: *until, reason: reason.clone() });
            }
            Entry::Occupied(turn) => {
                let turn = turn.into_mut();
                turn.wait = turn.pause.next();
                turn
            }
            Entry::Vacant(place) => place.insert(self.fresh(now)),
        };
        (turn.dialled, turn.until) = (now, now + turn.wait);
        turn.reason = "it was connected to a moment ago".to_owned();
        Ok(now)
    }

    /// It failed: the pause counts from now on. Returns how long it is.
    pub(super) fn failed(&self, way: &Way, reason: &str, now: Instant) -> Duration {
        let mut turns = self.lock();
        let turn = turns.entry(way.clone()).or_insert_with(|| self.fresh(now));
        (turn.until, turn.reason) = (now + turn.wait, reason.to_owned());
        turn.wait
    }

    /// It took the feed for a good while, connected to at `dialled`: what fails next is another failure.
    pub(super) fn worked(&self, way: &Way, dialled: Instant) {
        let mut turns = self.lock();
        // The next publisher's feed may be on its way there already.
        if turns.get(way).is_some_and(|turn| turn.dialled == dialled) {
            turns.remove(way);
        }
    }

    /// The first of a row of tries.
    fn fresh(&self, now: Instant) -> Turn {
        let mut pause = Pause::new(self.first, self.longest);
        let wait = pause.next();
        Turn { pause, dialled: now, wait, until: now, reason: String::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Way, Turn>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crest_core::units::Span;

    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    fn pauses() -> Pauses {
        Pauses::new(&ForwardConfig { pause: Span(FIRST), max_pause: Span(LONGEST), ..ForwardConfig::default() })
    }

    fn way(server: &str) -> Way {
        let server = ForwardTarget { url: format!("rtmp://{server}/app"), stream_key: None };
        Way { stream: StreamId::from_raw("str_a"), server }
    }

    /// Connects as soon as that may be, and returns how long it took until then.
    fn patiently(pauses: &Pauses, way: &Way, now: &mut Instant) -> Duration {
        let asked = *now;
        while let Err(off) = pauses.dial(way, *now) {
            *now = off.until;
        }
        *now - asked
    }

    #[test]
    fn one_that_is_connected_to_all_the_time_has_to_wait_longer_and_longer() {
        let (pauses, way, mut now) = (pauses(), way("a"), Instant::now());
        assert_eq!(patiently(&pauses, &way, &mut now), Duration::ZERO);
        for longest in [1, 2, 4, 8, 16, 30, 30] {
            let (waited, longest) = (patiently(&pauses, &way, &mut now), Duration::from_secs(longest));
            assert!(waited >= longest / 2 && waited <= longest, "{waited:?} of {longest:?}");
        }
        // Others do not wait for it.
        assert!(pauses.dial(&self::way("b"), now).is_ok());
        // After a time in which nobody wanted to, it begins anew.
        now += LONGEST * 2;
        assert_eq!(patiently(&pauses, &way, &mut now), Duration::ZERO);
        assert!(patiently(&pauses, &way, &mut now) <= FIRST);
    }

    #[test]
    fn one_that_failed_has_to_wait_from_then_on_and_says_why() {
        let (pauses, way, now) = (pauses(), way("a"), Instant::now());
        assert_eq!(pauses.dial(&way, now), Ok(now));
        let later = now + Duration::from_secs(5);
        let wait = pauses.failed(&way, "it is closed", later);
        assert!(wait >= FIRST / 2 && wait <= FIRST);
        let off = PutOff { until: later + wait, reason: "it is closed".to_owned() };
        assert_eq!(pauses.dial(&way, later), Err(off));
        assert!(pauses.dial(&way, later + wait).is_ok());
        let next = pauses.failed(&way, "it is closed", later + wait);
        assert!(next >= FIRST && next <= FIRST * 2, "{next:?}");
    }

    #[test]
    fn one_that_worked_for_long_is_connected_to_at_once() {
        let (pauses, way, mut now) = (pauses(), way("a"), Instant::now());
        for _ in 0..5 {
            patiently(&pauses, &way, &mut now);
        }
        let dialled = now + LONGEST;
        assert_eq!(pauses.dial(&way, dialled), Ok(dialled));
        let next = dialled + LONGEST + FIRST;
        pauses.worked(&way, dialled);
        assert_eq!(pauses.dial(&way, next), Ok(next));
        // One that ends late does not excuse the next.
        pauses.worked(&way, dialled);
        assert!(pauses.dial(&way, next).is_err());
        assert!(pauses.failed(&way, "it is closed", next) <= FIRST);
    }

    #[test]
    fn servers_that_nobody_connects_to_any_more_are_forgotten() {
        let (pauses, now) = (pauses(), Instant::now());
        for server in 0..100 {
            pauses.dial(&way(&server.to_string()), now).unwrap();
        }
        pauses.dial(&way("a"), now + LONGEST * 3).unwrap();
        assert_eq!(pauses.lock().len(), 1);
    }
}
