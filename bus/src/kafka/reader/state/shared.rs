//! The lock around the state, and how thread and subscription wake each other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

use crest_core::Error;
use crest_core::bus::Start;
use crest_core::topic::Topic;

use super::super::super::cluster::Cluster;
use super::{State, Taken};

/// Wakes the thread.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(crate) fn raise(&self) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Waits until it is raised, for so long at most.
    pub(crate) fn wait(&self, most: Duration) {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(raised, most, |raised| !*raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

pub(crate) struct Shared {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) topic: Topic,
    /// The group as crest calls it.
    pub(crate) group: String,
    pub(crate) start: Start,
    state: Mutex<State>,
    /// Wakes the subscription.
    pub(crate) news: Notify,
    pub(crate) signal: Arc<Signal>,
    /// Bytes that may wait to be asked for.
    pub(crate) most: usize,
    /// What the gauges were told of this subscription.
    pub(crate) told_partitions: AtomicU64,
    pub(crate) told_lag: AtomicU64,
}

impl Shared {
    pub(crate) fn new(cluster: Arc<Cluster>, topic: Topic, group: &str, start: Start, most: usize) -> Self {
        Self {
            cluster,
            topic,
            group: group.to_owned(),
            start,
            state: Mutex::new(State {
                told: VecDeque::new(),
                bytes: 0,
                partitions: BTreeMap::new(),
                generations: 0,
                error: None,
                closing: false,
                over: false,
                left: false,
                waiting: false,
                since: Instant::now(),
                given_up: 0,
                given_up_told: 0,
                given_up_handled: 0,
            }),
            news: Notify::new(),
            signal: Arc::default(),
            most,
            told_partitions: AtomicU64::new(0),
            told_lag: AtomicU64::new(0),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic's name in the cluster.
    pub(crate) fn name(&self) -> &str {
        self.cluster.topic(self.topic)
    }

    /// Tells the subscription of something that went wrong.
    pub(crate) fn fail(&self, error: Error) {
        self.lock().error = Some(error);
        self.news.notify_one();
    }

    /// The subscription asks for more: what it was handed before is done.
    pub(crate) fn entered(&self) {
        let mut state = self.lock();
        state.since = Instant::now();
        let news = state.left || state.given_up_handled != state.given_up_told;
        state.given_up_handled = state.given_up_told;
        drop(state);
        if news {
            self.signal.raise();
        }
    }

    /// The subscription waits until this is dropped.
    pub(crate) fn waits(&self) -> impl Drop + '_ {
        struct Waits<'a>(&'a Shared);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                let mut state = self.0.lock();
                (state.waiting, state.since) = (false, Instant::now());
            }
        }
        self.lock().waiting = true;
        Waits(self)
    }

    /// What comes next, up to `max` records.
    pub(crate) fn take(&self, max: usize) -> Taken {
        let mut state = self.lock();
        if let Some(error) = state.error.take() {
            return Taken::Failed(error);
        }
        let before = state.bytes;
        let taken = state.take(max);
        let room = before >= self.most / 2 && state.bytes < self.most / 2;
        drop(state);
        if room {
            self.signal.raise();
        }
        taken
    }
}
