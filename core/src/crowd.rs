//! Who is connected to a listener, and who makes room when it is full: strangers that say nothing must
//! not lock out somebody who has business.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections of one listener, at most `limit`. When it is full, a connection that has no business
/// makes room: the oldest one of the address that has the most of them.
#[derive(Debug)]
pub struct Crowd {
    limit: usize,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    /// By age.
    present: BTreeMap<u64, Member>,
}

struct Member {
    address: IpAddr,
    busy: bool,
    leave: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("address", &self.address).field("busy", &self.busy).finish_non_exhaustive()
    }
}

/// How a connection came in.
#[derive(Debug)]
pub enum Entry {
    /// There was room.
    Room(Place),
    /// Another one, which had no business, was told to leave.
    Instead(Place),
    /// All have business: it has to go.
    Full,
}

/// The place of one connection. Dropping it makes room.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Crowd {
    /// An empty one.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, members: Mutex::default() })
    }

    /// Lets a connection in. It has no business yet; `leave` is called, at most once and at once to be
    /// obeyed, when it has to make room.
    pub fn enter(self: &Arc<Self>, address: IpAddr, leave: impl FnOnce() + Send + 'static) -> Entry {
        let mut members = self.lock();
        let full = members.present.len() >= self.limit;
        let evicted = if full { members.evict() } else { None };
        if full && evicted.is_none() {
            return Entry::Full;
        }
        let number = members.next;
        members.next += 1;
        members.present.insert(number, Member { address, busy: false, leave: Box::new(leave) });
        drop(members);
        let place = Place { crowd: Arc::clone(self), number };
        match evicted {
            Some(member) => {
                (member.leave)();
                Entry::Instead(place)
            }
            None => Entry::Room(place),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    fn evict(&mut self) -> Option<Member> {
        let mut idle: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (number, member) in self.present.iter().filter(|(_, member)| !member.busy) {
            idle.entry(member.address).or_insert((0, *number)).0 += 1;
        }
        // The most; the oldest where two have as many.
        let (_, oldest) = idle.into_values().max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)))?;
        self.present.remove(&oldest)
    }
}

impl Place {
    /// Says whether the connection has business now; while it has, it need not make room.
    pub fn busy(&self, busy: bool) {
        if let Some(member) = self.crowd.lock().present.get_mut(&self.number) {
            member.busy = busy;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.lock().present.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn enter(crowd: &Arc<Crowd>, address: IpAddr) -> (Option<Place>, Arc<AtomicBool>) {
        let told = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&told);
        match crowd.enter(address, move || flag.store(true, Ordering::Relaxed)) {
            Entry::Room(place) | Entry::Instead(place) => (Some(place), told),
            Entry::Full => (None, told),
        }
    }

    #[test]
    fn the_oldest_without_business_of_the_most_crowded_address_makes_room() {
        let crowd = Crowd::new(4);
        let visitor = enter(&crowd, THERE);
        let working = enter(&crowd, HERE);
        let silent = [enter(&crowd, HERE), enter(&crowd, HERE)];
        working.0.as_ref().into_iter().for_each(|place| place.busy(true));
        let next = enter(&crowd, HERE);
        assert!(next.0.is_some() && silent[0].1.load(Ordering::Relaxed));
        for kept in [&visitor, &working, &silent[1], &next] {
            assert!(!kept.1.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn nobody_with_business_is_sent_away_and_leaving_makes_room() {
        let crowd = Crowd::new(2);
        let (first, second) = (enter(&crowd, HERE), enter(&crowd, THERE));
        for place in [&first.0, &second.0].into_iter().flatten() {
            place.busy(true);
        }
        assert!(enter(&crowd, HERE).0.is_none());
        drop(first.0);
        assert!(enter(&crowd, HERE).0.is_some());
        // Its business done, it makes room like any other.
        second.0.iter().for_each(|place| place.busy(false));
        let (third, fourth) = (enter(&crowd, HERE), enter(&crowd, HERE));
        assert!(second.1.load(Ordering::Relaxed) && third.0.is_some() && fourth.0.is_some());
    }

    #[test]
    fn whoever_was_sent_away_takes_no_place_with_it() {
        let crowd = Crowd::new(1);
        let first = enter(&crowd, HERE);
        let second = enter(&crowd, HERE);
        drop(first.0);
        second.0.iter().for_each(|place| place.busy(true));
        assert!(enter(&crowd, HERE).0.is_none(), "the second one holds the only place");
    }
}
