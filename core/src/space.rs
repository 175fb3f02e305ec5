//! Whether the volume of the data directory has room: what its watcher has seen, for everyone who
//! writes to it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::time::WallTime;

/// Shortages that are remembered; the oldest are forgotten.
const REMEMBERED: usize = 64;

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Room {
    /// Enough for everything.
    #[default]
    Ample,
    /// The reserve is reached: media is not stored, and no new feed is taken.
    Short,
    /// What is left is for decisions: clips wait too.
    Exhausted,
}

impl Room {
    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Short => "short",
            Self::Exhausted => "exhausted",
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Ample,
            1 => Self::Short,
            _ => Self::Exhausted,
        }
    }
}

/// A shared view of the volume. The default one has room for everything.
#[derive(Debug, Clone, Default)]
pub struct Space(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    room: AtomicU8,
    /// Bytes that are not to be written any more; kept the wrong way round so that 0 is no limit.
    withheld: AtomicU64,
    /// When it was short, oldest first; one without an end goes on.
    shortages: Mutex<VecDeque<(WallTime, Option<WallTime>)>>,
}

impl Space {
    /// How much room there is.
    pub fn room(&self) -> Room {
        Room::from_number(self.0.room.load(Ordering::Acquire))
    }

    /// Whether something of so many bytes that can wait may be written now.
    pub fn fits(&self, bytes: u64) -> bool {
        let spare = u64::MAX - self.0.withheld.load(Ordering::Acquire);
        self.room() != Room::Exhausted && bytes <= spare
    }

    /// Whether media of this stretch of wall-clock time may not have been stored for want of room, as
    /// far as this process remembers.
    pub fn was_short(&self, from: WallTime, to: WallTime) -> bool {
        self.shortages().iter().any(|(began, ended)| *began <= to && ended.is_none_or(|ended| ended >= from))
    }

    /// The watcher's part: what it saw at `now`. `spare` bytes may be written before what is left is
    /// for decisions alone.
    pub fn publish(&self, room: Room, spare: u64, now: WallTime) {
        self.0.withheld.store(u64::MAX - spare, Ordering::Release);
        let before = Room::from_number(self.0.room.swap(room as u8, Ordering::AcqRel));
        let mut shortages = self.shortages();
        match (before == Room::Ample, room == Room::Ample) {
            (true, false) => {
                shortages.push_back((now, None));
                if shortages.len() > REMEMBERED {
                    shortages.pop_front();
                }
            }
            (false, true) => {
                if let Some((_, ended)) = shortages.back_mut() {
                    *ended = Some(now);
                }
            }
            _ => {}
        }
    }

    fn shortages(&self) -> MutexGuard<'_, VecDeque<(WallTime, Option<WallTime>)>> {
        self.0.shortages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_remembered_with_its_beginning_and_its_end() {
        let (space, at) = (Space::default(), WallTime);
        assert!(space.fits(u64::MAX), "without a watcher there is no limit");
        assert!(!space.was_short(at(0), at(i64::MAX)));
        space.publish(Room::Short, 100, at(1000));
        space.publish(Room::Exhausted, 0, at(2000));
        assert!(!space.fits(0));
        assert!(space.was_short(at(5000), at(6000)), "it goes on");
        space.publish(Room::Short, 100, at(3000));
        assert!(space.fits(100) && !space.fits(101));
        space.publish(Room::Ample, 1000, at(4000));
        assert!(space.was_short(at(3900), at(6000)) && space.was_short(at(0), at(1000)));
        assert!(!space.was_short(at(4001), at(6000)) && !space.was_short(at(0), at(999)));
    }
}
