//! Whose turn it is to fetch a file, and whether it comes fast enough to keep it.

use crest_core::OrganizationId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::outlet::Progress;

/// How often who waits for a turn says so.
const WAITS: Duration = Duration::from_millis(250);

/// So many fetch at a time; of one organization at most half of them, so that it cannot keep the others out.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    of_one: usize,
    organizations: Mutex<HashMap<OrganizationId, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _of_one: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new(count: usize) -> Self {
        let all = Arc::new(Semaphore::new(count.max(1)));
        Self { all, of_one: (count / 2).max(1), organizations: Mutex::default() }
    }

    /// A turn that is free at this moment.
    pub(super) fn take(&self, organization: &OrganizationId) -> Option<Turn> {
        let _of_one = self.of(organization).try_acquire_owned().ok()?;
        let _of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Turn { _of_one, _of_all })
    }

    /// Waits for a turn, in the order of asking, and says how long that took. Who waits is not silent.
    pub(super) async fn wait(&self, organization: &OrganizationId, progress: &Progress) -> (Option<Turn>, Duration) {
        let (began, of_one, all) = (Instant::now(), self.of(organization), Arc::clone(&self.all));
        // Its own first: who waits for that keeps nobody else from theirs.
        let turn = async {
            let _of_one = of_one.acquire_owned().await.ok()?;
            let _of_all = all.acquire_owned().await.ok()?;
            Some(Turn { _of_one, _of_all })
        };
        tokio::pin!(turn);
        loop {
            progress.touch();
            tokio::select! {
                turn = &mut turn => {
                    progress.touch();
                    return (turn, began.elapsed());
                }
                () = tokio::time::sleep(WAITS) => {}
            }
        }
    }

    /// The turns of an organization, as long as one of them is held or waited for.
    fn of(&self, organization: &OrganizationId) -> Arc<Semaphore> {
        let mut organizations = self.organizations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = organizations.get(organization).and_then(Weak::upgrade) {
            return turns;
        }
        organizations.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(self.of_one));
        organizations.insert(organization.clone(), Arc::downgrade(&turns));
        turns
    }
}

/// How fast something comes: bytes, and the time that was spent waiting for them.
#[derive(Debug)]
pub(super) struct Rate {
    least: u64,
    window: Duration,
    bytes: u64,
    waited: Duration,
}

impl Rate {
    /// At least so many bytes a second, on the average of each `window`.
    pub(super) fn new(least: u64, window: Duration) -> Self {
        Self { least, window, bytes: 0, waited: Duration::ZERO }
    }

    /// Takes note of bytes that were waited for so long; `false` where they come too slowly.
    pub(super) fn keeps_up(&mut self, bytes: usize, waited: Duration) -> bool {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.waited += waited;
        if self.waited < self.window {
            return true;
        }
        let fast = self.bytes as f64 >= self.least as f64 * self.waited.as_secs_f64();
        (self.bytes, self.waited) = (0, Duration::ZERO);
        fast
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::poll;

    #[tokio::test]
    async fn an_organization_leaves_half_of_the_turns_to_others() {
        let (turns, progress) = (Turns::new(4), Progress::new());
        let [one, other, third] = [(); 3].map(|()| OrganizationId::draw());
        let held = [turns.take(&one).unwrap(), turns.take(&one).unwrap()];
        assert!(turns.take(&one).is_none(), "half of them");
        // It waits, and who asks after it does not have to.
        let mut next = Box::pin(turns.wait(&one, &progress));
        assert!(poll!(&mut next).is_pending());
        let others = [turns.take(&other).unwrap(), turns.take(&third).unwrap()];
        assert!(turns.take(&third).is_none(), "all of them");
        let mut last = Box::pin(turns.wait(&third, &progress));
        assert!(poll!(&mut last).is_pending());
        drop(others);
        assert!(last.await.0.is_some());
        assert!(poll!(&mut next).is_pending(), "its own are taken still");
        drop(held);
        assert!(next.await.0.is_some());
        drop(turns.take(&other));
        assert_eq!(turns.organizations.lock().unwrap().len(), 1, "those that want nothing are forgotten");
    }

    #[tokio::test]
    async fn a_single_turn_goes_round() {
        let turns = Turns::new(1);
        let organization = OrganizationId::draw();
        let held = turns.take(&organization).unwrap();
        assert!(turns.take(&OrganizationId::draw()).is_none());
        drop(held);
        assert!(turns.take(&organization).is_some());
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_is_not_silent() {
        let (turns, progress, one) = (Turns::new(1), Progress::new(), OrganizationId::draw());
        let _held = turns.take(&one).unwrap();
        tokio::select! {
            biased;
            _ = turns.wait(&one, &progress) => panic!("there is no turn"),
            () = progress.silent_for(WAITS * 4) => panic!("it is silent"),
            () = tokio::time::sleep(WAITS * 12) => {}
        }
    }

    #[test]
    fn a_rate_is_kept_on_the_average_of_each_window() {
        let second = Duration::from_secs(1);
        let mut rate = Rate::new(1000, 3 * second);
        assert!(rate.keeps_up(0, 2 * second), "the window is not over");
        assert!(rate.keeps_up(3000, second), "fast enough on the average");
        assert!(rate.keeps_up(1 << 20, second) && rate.keeps_up(0, second) && rate.keeps_up(0, second));
        assert!(!rate.keeps_up(2999, 3 * second), "what came in the window before does not count");
        assert!(Rate::new(0, second).keeps_up(0, 5 * second), "none is asked for");
    }
}
