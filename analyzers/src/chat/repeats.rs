//! Messages that arrive twice: a client whose request was cut off sends it again, a platform delivers
//! again after a reconnect.

use crest_core::chat::ChatMessage;
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Ids remembered; the oldest are forgotten first.
const MAX_IDS: usize = 65_536;

/// The ids that a session has seen lately.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Repeats {
    /// Whether the message is new; one without an id always is.
    pub(crate) fn is_new(&mut self, message: &ChatMessage) -> bool {
        let Some(id) = &message.id else { return true };
        let mut hasher = DefaultHasher::new();
        // A deletion carries the id of what it deletes.
        (id, message.kind).hash(&mut hasher);
        let id = hasher.finish();
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
