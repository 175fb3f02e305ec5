//! Which member of a group a subscription is. A member has the same name after a restart, so that it has
//! the same partitions; two subscriptions that are open at the same time have different names, and one that
//! takes the name of another waits until that one has told how far it came.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The members of this process, by group and number; whether they are about to leave.
static MEMBERS: Mutex<BTreeMap<(String, usize), bool>> = Mutex::new(BTreeMap::new());
static LEFT: Notify = Notify::const_new();

fn members() -> MutexGuard<'static, BTreeMap<(String, usize), bool>> {
    MEMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One member, until it is dropped.
pub(crate) struct Seat(String, usize);

impl Seat {
    /// The first free one in the group. One that is about to be free is waited for so long.
    pub(crate) async fn take(group: &str, patience: Duration) -> Self {
        let _ = timeout(patience, none_leaving(Some(group))).await;
        let mut all = members();
        let free = (0..).find(|number| !all.contains_key(&(group.to_owned(), *number))).unwrap_or_default();
        all.insert((group.to_owned(), free), false);
        Self(group.to_owned(), free)
    }

    /// Its number in the group.
    pub(crate) fn number(&self) -> usize {
        self.1
    }

    /// It is about to leave.
    pub(crate) fn leaving(&self) {
        members().insert((self.0.clone(), self.1), true);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        members().remove(&(self.0.clone(), self.1));
        LEFT.notify_waiters();
    }
}

/// Waits until no member of the group, or of any, is about to leave.
pub(crate) async fn none_leaving(group: Option<&str>) {
    loop {
        let mut left = std::pin::pin!(LEFT.notified());
        left.as_mut().enable();
        let of = |name: &str| group.is_none_or(|group| group == name);
        if !members().iter().any(|((name, _), leaving)| *leaving && of(name)) {
            return;
        }
        left.await;
    }
}
