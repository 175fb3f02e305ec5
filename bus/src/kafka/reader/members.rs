//! Which member of a group a subscription is. A member has the same name after a restart, so that it has
//! the same partitions; two subscriptions that are open at the same time have different names, and one that
//! takes the name of another waits until that one has told how far it came.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The members of this process, by group and number.
static MEMBERS: Mutex<BTreeMap<(String, usize), Member>> = Mutex::new(BTreeMap::new());
static LEFT: Notify = Notify::const_new();

#[derive(Clone, Copy)]
struct Member {
    /// The bus it is of: [`Cluster::number`](super::super::cluster::Cluster::number).
    bus: u64,
    leaving: bool,
}

fn members() -> MutexGuard<'static, BTreeMap<(String, usize), Member>> {
    MEMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One member, until it is dropped.
pub(crate) struct Seat(String, usize);

impl Seat {
    /// The first free one in the group. One that is about to be free is waited for so long.
    pub(crate) async fn take(bus: u64, group: &str, patience: Duration) -> Self {
        let _ = timeout(patience, none_leaving(|name, _| name == group)).await;
        let mut all = members();
        let free = (0..).find(|number| !all.contains_key(&(group.to_owned(), *number))).unwrap_or_default();
        all.insert((group.to_owned(), free), Member { bus, leaving: false });
        Self(group.to_owned(), free)
    }

    /// Its number in the group.
    pub(crate) fn number(&self) -> usize {
        self.1
    }

    /// It is about to leave.
    pub(crate) fn leaving(&self) {
        if let Some(member) = members().get_mut(&(self.0.clone(), self.1)) {
            member.leaving = true;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        members().remove(&(self.0.clone(), self.1));
        LEFT.notify_waiters();
    }
}

/// Waits until no member of a bus is about to leave. Those of another may wait for brokers that are away.
pub(crate) async fn none_leaving_of(bus: u64) {
    none_leaving(|_, member| member.bus == bus).await;
}

async fn none_leaving(of: impl Fn(&str, Member) -> bool) {
    loop {
        let mut left = std::pin::pin!(LEFT.notified());
        left.as_mut().enable();
        if !members().iter().any(|((name, _), member)| member.leaving && of(name, *member)) {
            return;
        }
        left.await;
    }
}
