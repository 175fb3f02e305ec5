//! A `liveChatMessage` resource becomes what it says (developers.google.com/youtube/v3/live/docs/liveChatMessages).

use crest_core::WallTime;
use crest_core::chat::ChatKind;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::chat::heard::{Heard, Removal, Removed, Said, State};

/// Currencies without a smaller unit among those that YouTube takes.
const WHOLE: [&str; 8] = ["JPY", "KRW", "CLP", "ISK", "PYG", "UGX", "VND", "XAF"];

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Item {
    id: String,
    snippet: Snippet,
    author_details: Author,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Author {
    channel_id: String,
    display_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Snippet {
    r#type: String,
    published_at: String,
    author_channel_id: String,
    text_message_details: Text,
    super_chat_details: Paid,
    super_sticker_details: Paid,
    member_milestone_chat_details: Comment,
    message_deleted_details: Deleted,
    user_banned_details: Banned,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Text {
    message_text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Comment {
    user_comment: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Paid {
    #[serde(deserialize_with = "number")]
    amount_micros: u64,
    currency: String,
    user_comment: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Deleted {
    deleted_message_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Banned {
    banned_user_details: Author,
}

/// What a message says; `Ok(None)` where it says nothing that matters here. The error: it is not what is documented.
pub(crate) fn read(item: &Value, now: WallTime) -> Result<Option<Heard>, ()> {
    let item = Item::deserialize(item).map_err(drop)?;
    let snippet = item.snippet;
    let at = WallTime::parse(&snippet.published_at).unwrap_or(now);
    let removed = |what| Ok(Some(Heard::Removed(Removal { what, at })));
    let (kind, text, bits) = match snippet.r#type.as_str() {
        "textMessageEvent" => (ChatKind::Message, snippet.text_message_details.message_text, None),
        "superChatEvent" => {
            let paid = snippet.super_chat_details;
            let bits = paid.bits();
            (ChatKind::Bits, paid.user_comment, bits)
        }
        "superStickerEvent" => (ChatKind::Bits, String::new(), snippet.super_sticker_details.bits()),
        "memberMilestoneChatEvent" => (ChatKind::Sub, snippet.member_milestone_chat_details.user_comment, None),
        // What each of those receives who were given a membership is told as well, and not counted again.
        "newSponsorEvent" | "membershipGiftingEvent" => (ChatKind::Sub, String::new(), None),
        "messageDeletedEvent" => match snippet.message_deleted_details.deleted_message_id {
            id if id.is_empty() => return Err(()),
            id => return removed(Removed::Message(id)),
        },
        "userBannedEvent" => match snippet.user_banned_details.banned_user_details.channel_id {
            id if id.is_empty() => return Err(()),
            id => return removed(Removed::Author(id)),
        },
        "chatEndedEvent" => return Ok(Some(Heard::State(State::Over))),
        "" => return Err(()),
        _ => return Ok(None),
    };
    if item.id.is_empty() {
        return Err(());
    }
    let author = [item.author_details.channel_id, snippet.author_channel_id].into_iter().find(|id| !id.is_empty());
    let author = author.unwrap_or_default();
    let user = match item.author_details.display_name {
        name if name.is_empty() => author.clone(),
        name => name,
    };
    let said = Said { id: item.id, at, author, user, text, kind, emotes: Vec::new(), bits };
    Ok(Some(Heard::Said(said.bounded())))
}

impl Paid {
    /// The amount in the smallest unit of its currency, not exchanged: a cent is about what a bit at Twitch is.
    fn bits(&self) -> Option<u32> {
        let smallest = if WHOLE.contains(&self.currency.as_str()) { 1_000_000 } else { 10_000 };
        Some(u32::try_from(self.amount_micros / smallest).unwrap_or(u32::MAX)).filter(|bits| *bits > 0)
    }
}

/// The API writes 64-bit numbers as text.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Number(number) => number.as_u64().unwrap_or_default(),
        Value::String(text) => text.parse().unwrap_or_default(),
        _ => 0,
    })
}

#[cfg(test)]
#[path = "item_tests.rs"]
mod tests;
