//! The units of YouTube's API that may be used. They are counted a day, which ends at midnight Pacific Time
//! (developers.google.com/youtube/v3/getting-started#quota).

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What one look for new messages costs, in units; what opening a stream of them costs is taken to be the same. The
/// documentation of the methods does not say it; of looks, this is what Google's console counts.
pub(super) const LIST: u32 = 5;
/// What one look at a video costs, in units.
pub(super) const VIDEO: u32 = 1;

/// The budget of this process.
#[derive(Debug)]
pub(super) struct Quota {
    daily: u32,
    spread: Duration,
    day: Mutex<Day>,
}

#[derive(Debug)]
struct Day {
    ends: Timestamp,
    used: u32,
}

impl Quota {
    pub(super) fn new(daily: u32, spread: Duration) -> Self {
        Self { daily, spread, day: Mutex::new(Day { ends: Timestamp::MIN, used: 0 }) }
    }

    /// Takes units; the error is when there are some again.
    pub(super) fn take(&self, units: u32, now: Timestamp) -> Result<(), Timestamp> {
        let mut day = self.day(now);
        let used = day.used.saturating_add(units);
        if used > self.daily {
            return Err(day.ends);
        }
        day.used = used;
        metrics::counter!("crest_chat_quota_units_total", "platform" => super::PLATFORM).increment(u64::from(units));
        Ok(())
    }

    /// YouTube says that nothing is left; when there is something again.
    pub(super) fn exhausted(&self, now: Timestamp) -> Timestamp {
        let mut day = self.day(now);
        day.used = self.daily;
        day.ends
    }

    /// The pause between two looks of one of so many followers, with which the budget lasts for the spread.
    pub(super) fn pace(&self, followers: usize) -> Duration {
        let looks = (self.daily / LIST).max(1);
        let followers = u32::try_from(followers.max(1)).unwrap_or(u32::MAX);
        (self.spread / looks).saturating_mul(followers)
    }

    fn day(&self, now: Timestamp) -> MutexGuard<'_, Day> {
        let mut day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= day.ends {
            *day = Day { ends: midnight_after(now), used: 0 };
        }
        day
    }
}

/// The next midnight Pacific Time; without the rules of summer time on this machine, that of winter.
fn midnight_after(now: Timestamp) -> Timestamp {
    let zone = TimeZone::get("America/Los_Angeles").unwrap_or_else(|_| TimeZone::fixed(Offset::constant(-8)));
    let next = now.to_zoned(zone).tomorrow().and_then(|tomorrow| tomorrow.start_of_day());
    next.map_or(now, |next| next.timestamp())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_budget_is_kept_and_is_there_again_after_midnight() {
        let quota = Quota::new(11, Duration::from_secs(3600));
        let (noon, evening) = (at("2026-11-21T20:00:00Z"), at("2026-11-22T07:59:59Z"));
        assert_eq!(quota.take(LIST, noon), Ok(()));
        assert_eq!(quota.take(LIST, evening), Ok(()));
        assert_eq!(quota.take(LIST, evening), Err(at("2026-11-22T08:00:00Z")));
        assert_eq!(quota.take(VIDEO, evening), Ok(()), "what is left is left for what costs less");
        assert_eq!(quota.take(LIST, at("2026-11-22T08:00:00Z")), Ok(()));
        assert_eq!(quota.exhausted(at("2026-11-22T09:00:00Z")), at("2026-11-23T08:00:00Z"));
        assert!(quota.take(VIDEO, at("2026-11-22T10:00:00Z")).is_err());
    }

    #[test]
    fn the_budget_is_spread_among_the_followers() {
        let quota = Quota::new(10_000, Duration::from_secs(4 * 3600));
        assert_eq!(quota.pace(1), Duration::from_millis(7200));
        assert_eq!(quota.pace(3), Duration::from_millis(21_600));
        assert!(Quota::new(0, Duration::from_secs(60)).pace(0) >= Duration::from_secs(60));
    }
}
