//! Which channels of a connection are joined, and which are to be asked for next. Twitch allows 20 joins in 10
//! seconds (dev.twitch.tv/docs/chat/#rate-limits), and answers a join of a channel that is not there with a notice,
//! or not at all.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const JOINS: usize = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// How long a join may be without an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Keeps to the rate of joins.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<VecDeque<Instant>>);

impl Pace {
    /// Whether one may be sent now; it counts as sent then.
    fn allows(&self, now: Instant) -> bool {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while sent.front().is_some_and(|at| now.saturating_duration_since(*at) > WINDOW) {
            sent.pop_front();
        }
        let allowed = sent.len() < JOINS;
        if allowed {
            sent.push_back(now);
        }
        allowed
    }
}

/// What is to be sent, and what did not come of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) join: Vec<String>,
    pub(super) part: Vec<String>,
    /// Asked for, and not answered.
    pub(super) silent: Vec<String>,
}

/// How it stands with one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Joined,
    /// It was asked for; without an answer by then the server is silent about it.
    Asked(Instant),
    /// It is asked for again from then on.
    Later(Instant),
}

/// The channels of one connection.
#[derive(Debug)]
pub(super) struct Joins {
    standing: HashMap<String, Standing>,
    /// How long it takes until what was refused is asked for again.
    refused: Duration,
}

impl Joins {
    pub(super) fn new(refused: Duration) -> Self {
        Self { standing: HashMap::new(), refused }
    }

    /// What is due now, these channels being wanted.
    pub(super) fn due(&mut self, wanted: &[String], pace: &Pace, now: Instant) -> Due {
        let mut due = Due::default();
        self.standing.retain(|channel, _| {
            let keep = wanted.contains(channel);
            if !keep {
                due.part.push(channel.clone());
            }
            keep
        });
        for channel in wanted {
            match self.standing.get(channel) {
                Some(Standing::Asked(until)) if *until <= now => {
                    due.silent.push(channel.clone());
                    self.standing.insert(channel.clone(), Standing::Later(now + self.refused));
                }
                Some(Standing::Joined | Standing::Asked(_)) => {}
                Some(Standing::Later(from)) if *from > now => {}
                Some(Standing::Later(_)) | None if pace.allows(now) => {
                    due.join.push(channel.clone());
                    self.standing.insert(channel.clone(), Standing::Asked(now + ANSWER));
                }
                Some(Standing::Later(_)) | None => {}
            }
        }
        due
    }

    /// The server says that the channel is joined.
    pub(super) fn joined(&mut self, channel: &str) {
        if let Some(standing) = self.standing.get_mut(channel) {
            *standing = Standing::Joined;
        }
    }

    /// The server refuses the channel.
    pub(super) fn refused(&mut self, channel: &str, now: Instant) {
        if let Some(standing) = self.standing.get_mut(channel) {
            *standing = Standing::Later(now + self.refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("c{n}")).collect()
    }

    #[test]
    fn channels_are_asked_for_at_the_rate_that_is_allowed() {
        let (mut joins, pace, start) = (Joins::new(Duration::from_secs(300)), Pace::default(), Instant::now());
        let wanted = names(45);
        let mut count = |at: f64| joins.due(&wanted, &pace, start + Duration::from_secs_f64(at)).join.len();
        assert_eq!((count(0.0), count(5.0), count(9.9)), (20, 0, 0));
    }

    #[test]
    fn what_is_refused_or_not_answered_is_asked_for_again_later() {
        let (mut joins, pace, start) = (Joins::new(Duration::from_secs(300)), Pace::default(), Instant::now());
        let (wanted, at) = (names(3), |seconds| start + Duration::from_secs(seconds));
        assert_eq!(joins.due(&wanted, &pace, start).join, wanted);
        joins.joined("c0");
        joins.refused("c1", start);
        let later = joins.due(&wanted, &pace, at(11));
        assert_eq!((later.join.len(), later.silent), (0, vec!["c2".to_owned()]));
        assert_eq!(joins.due(&wanted, &pace, at(301)).join, ["c1"]);
        assert_eq!(
            joins.due(&wanted, &pace, at(311)),
            Due { join: vec!["c2".into()], silent: vec!["c1".into()], ..Due::default() }
        );
        let mut parted = joins.due(&wanted[..1], &pace, at(312)).part;
        parted.sort();
        assert_eq!(parted, ["c1", "c2"]);
    }
}
