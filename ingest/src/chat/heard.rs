//! What a platform told of a chat, before it is placed on a session's timeline.

use crest_core::WallTime;
use crest_core::chat::ChatKind;

/// The longest text that is kept, in bytes; what is longer is cut off. No platform lets people write more.
const MAX_TEXT: usize = 4000;
/// The longest id, name of a user, or name of an emote, in bytes.
const MAX_NAME: usize = 200;
/// Emotes of one message that are kept.
pub(super) const MAX_EMOTES: usize = 100;

/// Something that a platform told of one chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Somebody wrote, subscribed, paid or came over.
    Said(Said),
    /// Messages were removed.
    Removed(Removal),
    /// How the platform stands to the chat has changed.
    State(State),
}

/// A message as the platform has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// The platform's id of it: the same when it is told again.
    pub(crate) id: String,
    /// When it was written, or arrived where the platform does not say.
    pub(crate) at: WallTime,
    /// Who wrote it, as bans name them.
    pub(crate) author: String,
    /// Who wrote it, as people know them.
    pub(crate) user: String,
    pub(crate) text: String,
    pub(crate) kind: ChatKind,
    pub(crate) emotes: Vec<String>,
    pub(crate) bits: Option<u32>,
}

/// Messages that were removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Which.
    pub(crate) what: Removed,
    /// When.
    pub(crate) at: WallTime,
}

/// Which messages were removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removed {
    /// The one with this id.
    Message(String),
    /// All of an author, who was banned, for a while or for good.
    Author(String),
    /// All there were.
    All,
}

/// How a platform stands to a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// What is written arrives.
    Following,
    /// It is tried again later, for this reason.
    Waiting(String),
    /// The chat is over; nothing follows.
    Over,
}

impl Said {
    /// Within the bounds: what is too long is cut off.
    pub(super) fn bounded(mut self) -> Self {
        for (text, most) in [
            (&mut self.id, MAX_NAME),
            (&mut self.author, MAX_NAME),
            (&mut self.user, MAX_NAME),
            (&mut self.text, MAX_TEXT),
        ] {
            text.truncate(text.floor_char_boundary(most));
        }
        // On the bus they are separated by blanks.
        self.emotes.retain(|name| !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_whitespace));
        self.emotes.truncate(MAX_EMOTES);
        self
    }
}

/// Now, for messages whose platform does not say when they were written.
pub(super) fn now() -> WallTime {
    crate::states::now()
}
