//! Which streams have a task, and whether they have a publisher: the one place that decides who of
//! two comes first.

use crest_core::StreamId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

use crate::lifecycle::Command;

/// Commands that may wait for a stream's task.
const COMMANDS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No publisher.
    Waiting,
    /// A publisher is admitted.
    Fed,
    /// Ending; nobody is admitted any more.
    Closing,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    inbox: mpsc::Sender<Command>,
}

/// What became of a claim to feed a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The claimant may feed it.
    Granted,
    /// Somebody else does.
    Fed,
    /// It is ending.
    Closing,
}

/// The streams with a task.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Mutex<HashMap<StreamId, Entry>>,
}

impl Registry {
    /// The way to a stream's task, and the task's end of it where there is no task yet: then the
    /// caller must start one.
    pub(crate) fn obtain(&self, id: &StreamId) -> (mpsc::Sender<Command>, Option<mpsc::Receiver<Command>>) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(id) {
            return (entry.inbox.clone(), None);
        }
        let (inbox, receiver) = mpsc::channel(COMMANDS);
        entries.insert(id.clone(), Entry { phase: Phase::Waiting, inbox: inbox.clone() });
        (inbox, Some(receiver))
    }

    /// The way to a stream's task, where there is one.
    pub(crate) fn inbox(&self, id: &StreamId) -> Option<mpsc::Sender<Command>> {
        self.lock().get(id).map(|entry| entry.inbox.clone())
    }

    /// Whether a publisher is admitted.
    pub(crate) fn is_fed(&self, id: &StreamId) -> bool {
        self.lock().get(id).is_some_and(|entry| entry.phase == Phase::Fed)
    }

    /// The streams that have a task.
    pub(crate) fn ids(&self) -> Vec<StreamId> {
        self.lock().keys().cloned().collect()
    }

    /// Claims the right to feed a stream that has a task.
    pub(crate) fn claim(&self, id: &StreamId) -> Claim {
        match self.lock().get_mut(id) {
            Some(entry) if entry.phase == Phase::Waiting => {
                entry.phase = Phase::Fed;
                Claim::Granted
            }
            Some(entry) if entry.phase == Phase::Fed => Claim::Fed,
            Some(_) | None => Claim::Closing,
        }
    }

    /// The publisher is gone, and the next one may come.
    pub(crate) fn departed(&self, id: &StreamId) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.phase = Phase::Waiting;
        }
    }

    /// Begins to end a stream unless a publisher was admitted meanwhile.
    pub(crate) fn close(&self, id: &StreamId) -> bool {
        match self.lock().get_mut(id) {
            Some(entry) if entry.phase == Phase::Fed => false,
            Some(entry) => {
                entry.phase = Phase::Closing;
                true
            }
            None => true,
        }
    }

    /// Begins to end a stream, publisher or not.
    pub(crate) fn end(&self, id: &StreamId) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.phase = Phase::Closing;
        }
    }

    /// The task is over.
    pub(crate) fn forget(&self, id: &StreamId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_publisher_at_a_time_and_none_once_it_ends() {
        let registry = Registry::default();
        let id = StreamId::from_raw("str_a");
        assert_eq!(registry.claim(&id), Claim::Closing, "no task to feed");
        assert!(registry.inbox(&id).is_none());
        assert!(registry.obtain(&id).1.is_some());
        assert!(registry.obtain(&id).1.is_none());
        assert!(registry.inbox(&id).is_some());
        assert_eq!(registry.ids(), std::slice::from_ref(&id));
        assert!(!registry.is_fed(&id));
        assert_eq!(registry.claim(&id), Claim::Granted);
        assert!(registry.is_fed(&id));
        assert_eq!(registry.claim(&id), Claim::Fed);
        assert!(!registry.close(&id), "it is being fed");
        registry.departed(&id);
        assert!(registry.close(&id));
        assert_eq!(registry.claim(&id), Claim::Closing);
        registry.forget(&id);
        assert!(registry.obtain(&id).1.is_some());
    }
}
