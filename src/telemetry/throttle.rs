//! At most one line a second for each cause, and a count of those that were left out.
//!
//! A line stands for itself; `repeated=N` on it says that N more of its cause are not shown. So the
//! lines of a cause and their counts add up to how often it happened. The first is shown at once. Of
//! those that follow within a second the first is kept: it is shown, with the count of the others,
//! when the second is over, unless the next one comes just then and is shown in its place.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a cause is silent after a line.
const PAUSE: Duration = Duration::from_secs(1);

/// What makes two lines the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// The cause.
    pub key: u64,
    /// The place in the program that it comes from, for when there are too many causes.
    pub place: u64,
}

/// A line, and how many more of its cause it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    /// The line.
    pub line: T,
    /// The others.
    pub repeated: u64,
}

#[derive(Debug)]
struct State<T> {
    said: Instant,
    kept: Option<T>,
    more: u64,
}

/// Which lines are shown.
#[derive(Debug)]
pub struct Throttle<T> {
    causes: HashMap<u64, State<T>>,
    most: usize,
}

impl<T> Throttle<T> {
    /// Remembers up to `most` causes. Lines of any further cause count as one cause for each place
    /// they come from, and the program has a few hundred of those.
    pub fn new(most: usize) -> Self {
        Self { causes: HashMap::new(), most }
    }

    /// Takes a line of a cause; what is to be shown of it now, if anything.
    pub fn take(&mut self, cause: Cause, line: T, now: Instant) -> Option<Said<T>> {
        let full = self.causes.len() >= self.most && !self.causes.contains_key(&cause.key);
        let key = if full { cause.place } else { cause.key };
        let Some(state) = self.causes.get_mut(&key) else {
            self.causes.insert(key, State { said: now, kept: None, more: 0 });
            return Some(Said { line, repeated: 0 });
        };
        if now.saturating_duration_since(state.said) >= PAUSE {
            let repeated = state.more + u64::from(state.kept.take().is_some());
            (state.said, state.more) = (now, 0);
            return Some(Said { line, repeated });
        }
        match state.kept {
            Some(_) => state.more += 1,
            None => state.kept = Some(line),
        }
        None
    }

    /// What was kept for a second. Causes that were silent so long are forgotten.
    pub fn due(&mut self, now: Instant) -> Vec<Said<T>> {
        let mut due = Vec::new();
        self.causes.retain(|_, state| {
            if now.saturating_duration_since(state.said) < PAUSE {
                return true;
            }
            let Some(line) = state.kept.take() else { return false };
            due.push(Said { line, repeated: std::mem::take(&mut state.more) });
            state.said = now;
            true
        });
        due
    }

    /// Everything that was kept, due or not: nothing comes after.
    pub fn rest(&mut self) -> Vec<Said<T>> {
        let states = self.causes.drain().map(|(_, state)| state);
        states.filter_map(|state| state.kept.map(|line| Said { line, repeated: state.more })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(key: u64) -> Cause {
        Cause { key, place: 1_000_000 }
    }

    fn said(line: u32, repeated: u64) -> Said<u32> {
        Said { line, repeated }
    }

    #[test]
    fn a_burst_is_one_line_and_one_after_a_second_with_the_count() {
        let mut throttle = Throttle::new(10);
        let start = Instant::now();
        assert_eq!(throttle.take(cause(1), 0, start), Some(said(0, 0)));
        for n in 1..1000 {
            assert_eq!(throttle.take(cause(1), n, start + Duration::from_micros(n.into())), None);
        }
        assert_eq!(throttle.due(start + Duration::from_millis(999)), []);
        assert_eq!(throttle.due(start + Duration::from_millis(1000)), [said(1, 998)]);
        assert_eq!(throttle.take(cause(1), 5000, start + Duration::from_millis(1500)), None);
        assert_eq!(throttle.due(start + Duration::from_millis(2000)), [said(5000, 0)]);
    }

    #[test]
    fn what_goes_on_is_one_line_a_second_and_everything_is_counted() {
        let mut throttle = Throttle::new(10);
        let start = Instant::now();
        let mut shown = Vec::new();
        // One each 3 ms for ten seconds; nobody asks what is due.
        for n in 0..3334u32 {
            shown.extend(throttle.take(cause(1), n, start + Duration::from_millis(3) * n));
        }
        assert_eq!(shown.len(), 10);
        shown.extend(throttle.rest());
        assert_eq!(shown.iter().map(|s| 1 + s.repeated).sum::<u64>(), 3334);
    }

    #[test]
    fn causes_do_not_hide_each_other() {
        let mut throttle = Throttle::new(10);
        let now = Instant::now();
        assert_eq!(throttle.take(cause(1), 1, now), Some(said(1, 0)));
        assert_eq!(throttle.take(cause(2), 2, now), Some(said(2, 0)));
        assert_eq!(throttle.take(cause(1), 3, now), None);
        assert_eq!(throttle.take(cause(2), 4, now), None);
        assert_eq!(throttle.rest().len(), 2);
    }

    #[test]
    fn too_many_causes_count_by_place_and_silent_ones_are_forgotten() {
        let mut throttle = Throttle::new(100);
        let now = Instant::now();
        let shown: Vec<_> = (0..10_000).filter_map(|n| throttle.take(cause(n), n, now)).collect();
        assert_eq!(shown.len(), 101, "a hundred causes and the place of the others");
        assert_eq!(throttle.causes.len(), 101);
        let due = throttle.due(now + PAUSE);
        assert_eq!((shown.len() + due.len()) as u64 + due.iter().map(|s| s.repeated).sum::<u64>(), 10_000);
        assert_eq!(throttle.due(now + PAUSE * 2), []);
        assert_eq!(throttle.causes.len(), 0);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_loses_nothing() {
        let mut throttle = Throttle::new(10);
        let now = Instant::now() + PAUSE;
        assert_eq!(throttle.take(cause(1), 1, now), Some(said(1, 0)));
        assert_eq!(throttle.take(cause(1), 2, now - PAUSE), None);
        assert_eq!(throttle.rest(), [said(2, 0)]);
    }
}
