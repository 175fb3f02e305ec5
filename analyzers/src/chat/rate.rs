//! `chat_rate` and `chat_unique`: how much is written, and by how many.

use crest_core::chat::{ChatKind, ChatMessage};
use crest_core::signal::Signal;
use crest_core::{BUCKET_NANOS, Bucket};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{Analyzer, Values};

/// Buckets kept for messages that arrive late or out of order; those that were begun first are
/// forgotten first. (Not the earliest: chat may be posted long before its media.)
const MAX_BUCKETS: usize = 1200;
/// Buckets over which different users are counted: 5 s.
const UNIQUE_WINDOW: u64 = 10;
/// Different users remembered per bucket; above, the count is as good as "very many".
const MAX_USERS: usize = 1_000;

#[derive(Default)]
struct Tally {
    messages: u64,
    users: HashSet<u64>,
}

/// Counts messages and users.
#[derive(Default)]
pub struct Rate {
    buckets: BTreeMap<Bucket, Tally>,
    begun: VecDeque<Bucket>,
}

impl Analyzer for Rate {
    fn chat(&mut self, message: &ChatMessage, values: &mut Values) {
        let bucket = message.at.bucket();
        if message.kind == ChatKind::Deletion {
            return;
        }
        if !self.buckets.contains_key(&bucket) {
            self.begun.push_back(bucket);
        }
        let tally = self.buckets.entry(bucket).or_default();
        tally.messages += 1;
        if tally.users.len() < MAX_USERS {
            // Only equality is asked of a user's name, so a hash of it is enough to keep.
            let mut hasher = DefaultHasher::new();
            message.user.hash(&mut hasher);
            tally.users.insert(hasher.finish());
        }
        let rate = tally.messages as f64 * 1e9 / BUCKET_NANOS as f64;
        let recent = self.buckets.range(bucket.back(UNIQUE_WINDOW - 1)..=bucket);
        let users: HashSet<u64> = recent.flat_map(|(_, t)| t.users.iter().copied()).collect();
        values.set(bucket, Signal::ChatRate, rate);
        values.set(bucket, Signal::ChatUnique, users.len() as f64);
        if self.begun.len() > MAX_BUCKETS
            && let Some(first) = self.begun.pop_front()
        {
            self.buckets.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::signal::{Modality, SignalEntry};
    use crest_core::{MediaTime, OrganizationId, Session};

    #[test]
    fn one_loud_user_is_not_a_crowd() {
        let (mut rate, mut values) = (Rate::default(), Values::default());
        for (at, user) in [(100, "a"), (200, "a"), (300, "a"), (1100, "a"), (1200, "b")] {
            let message = ChatMessage {
                organization_id: OrganizationId::from_raw("org_a"),
                session: Session::new(1),
                at: MediaTime::from_millis(at),
                id: None,
                user: user.into(),
                text: "!".into(),
                kind: ChatKind::Message,
                emotes: Vec::new(),
                bits: None,
            };
            rate.chat(&message, &mut values);
        }
        let entries = values.take(Modality::Chat, MediaTime::from_millis(9000));
        let value = |at: u64, wanted: Signal| {
            entries.iter().find_map(|e| match e {
                SignalEntry::Value { bucket, signal, value } if bucket.index() == at && *signal == wanted => {
                    Some(*value)
                }
                _ => None,
            })
        };
        assert_eq!(value(0, Signal::ChatRate), Some(6.0));
        assert_eq!(value(0, Signal::ChatUnique), Some(1.0));
        assert_eq!(value(2, Signal::ChatUnique), Some(2.0));
    }
}
