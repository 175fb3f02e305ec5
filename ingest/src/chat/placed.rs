//! What was heard becomes messages on a session's timeline. Removals become one deletion for each message that
//! they mean, as far as it is remembered.

use crest_core::chat::{ChatKind, ChatMessage};
use crest_core::stream::SessionRow;
use crest_core::{MediaTime, OrganizationId, WallTime};
use std::collections::VecDeque;

use super::heard::{Removal, Removed, Said};

/// How far ahead of this machine's clock a platform's may be; what is dated later is placed where it arrived.
const AHEAD_MS: i64 = 5_000;

/// Places what is heard in one session.
pub(super) struct Placing {
    organization: OrganizationId,
    row: SessionRow,
    remembered: Remembered,
}

impl Placing {
    pub(super) fn new(organization: OrganizationId, row: SessionRow, most: usize) -> Self {
        Self { organization, row, remembered: Remembered { most, messages: VecDeque::new() } }
    }

    /// `None` for what was written before the session began.
    pub(super) fn said(&mut self, said: Said, now: WallTime) -> Option<ChatMessage> {
        let at = self.at(said.at, now)?;
        self.remembered.add(said.author, &said.id, &said.user);
        Some(ChatMessage {
            organization_id: self.organization.clone(),
            session: self.row.session,
            at,
            id: Some(said.id),
            user: said.user,
            text: said.text,
            kind: said.kind,
            emotes: said.emotes,
            bits: said.bits,
        })
    }

    /// One deletion per message; none for those from before the session, and those of a banned author that are
    /// not remembered any more.
    pub(super) fn removed(&mut self, removal: Removal, now: WallTime) -> Vec<ChatMessage> {
        let Some(at) = self.at(removal.at, now) else { return Vec::new() };
        let deletion = |(id, user): (String, String)| ChatMessage {
            organization_id: self.organization.clone(),
            session: self.row.session,
            at,
            id: Some(id),
            user,
            text: String::new(),
            kind: ChatKind::Deletion,
            emotes: Vec::new(),
            bits: None,
        };
        self.remembered.take(removal.what).into_iter().map(deletion).collect()
    }

    fn at(&self, wall: WallTime, now: WallTime) -> Option<MediaTime> {
        let wall = if wall.0 > now.0.saturating_add(AHEAD_MS) { now } else { wall };
        let at = self.row.media_at(wall);
        (at >= MediaTime::ZERO).then_some(at)
    }
}

/// The latest messages, the oldest first.
struct Remembered {
    most: usize,
    messages: VecDeque<Remember>,
}

struct Remember {
    author: String,
    id: String,
    user: String,
}

impl Remembered {
    fn add(&mut self, author: String, id: &str, user: &str) {
        while self.messages.len() >= self.most.max(1) {
            self.messages.pop_front();
        }
        self.messages.push_back(Remember { author, id: id.to_owned(), user: user.to_owned() });
    }

    /// Ids and users of the messages that are meant, which are forgotten. A single one is meant by its id
    /// alone, remembered or not.
    fn take(&mut self, what: Removed) -> Vec<(String, String)> {
        let mut taken = Vec::new();
        self.messages.retain(|message| {
            let meant = match &what {
                Removed::Message(id) => message.id == *id,
                Removed::Author(author) => message.author == *author,
                Removed::All => true,
            };
            if meant {
                taken.push((message.id.clone(), message.user.clone()));
            }
            !meant
        });
        if let Removed::Message(id) = what {
            let user = taken.pop().map(|(_, user)| user).unwrap_or_default();
            return vec![(id, user)];
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::{Session, StreamId};

    const START: i64 = 1_795_000_000_000;

    fn placing(most: usize) -> Placing {
        let row = SessionRow {
            stream_id: StreamId::from_raw("str_a"),
            session: Session::new(3),
            started_at: WallTime(START),
            ended_at: None,
        };
        Placing::new(OrganizationId::from_raw("org_a"), row, most)
    }

    fn said(id: &str, author: &str, at: i64) -> Said {
        Said {
            id: id.to_owned(),
            at: WallTime(START + at),
            author: author.to_owned(),
            user: author.to_uppercase(),
            text: "wow".to_owned(),
            kind: ChatKind::Message,
            emotes: Vec::new(),
            bits: None,
        }
    }

    #[test]
    fn messages_lie_where_they_were_written_and_earlier_ones_nowhere() {
        let (mut placing, now) = (placing(10), WallTime(START + 60_000));
        let mut at = |at| placing.said(said("a", "x", at), now).map(|message| message.at);
        assert_eq!(at(12_345), Some(MediaTime::from_millis(12_345)));
        assert_eq!(at(-1), None);
        assert_eq!(at(64_000), Some(MediaTime::from_millis(64_000)), "clocks differ a little");
        assert_eq!(at(3_600_000), Some(MediaTime::from_millis(60_000)), "that one is wrong");
    }

    #[test]
    fn a_ban_removes_what_is_remembered_of_the_author_once() {
        let (mut placing, now) = (placing(3), WallTime(START + 60_000));
        for (id, author) in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "x")] {
            placing.said(said(id, author, 1000), now);
        }
        let mut removed = |what| {
            let removal = Removal { what, at: WallTime(START + 2000) };
            let deletions = placing.removed(removal, now);
            assert!(deletions.iter().all(|d| d.kind == ChatKind::Deletion && d.text.is_empty()), "{deletions:?}");
            deletions.into_iter().map(|d| format!("{} of {}", d.id.unwrap_or_default(), d.user)).collect::<Vec<_>>()
        };
        assert_eq!(removed(Removed::Author("x".into())), ["b of X", "d of X"], "'a' is forgotten");
        assert!(removed(Removed::Author("x".into())).is_empty());
        assert_eq!(removed(Removed::Message("c".into())), ["c of Y"]);
        assert_eq!(removed(Removed::Message("unknown".into())), ["unknown of "]);
        assert!(removed(Removed::All).is_empty());
    }
}
