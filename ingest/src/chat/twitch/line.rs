//! One line of Twitch's IRC becomes what it says. Lines come from outside: nothing in them is relied on, and what
//! they must not have is left out. The syntax is read by `twitch-irc`; the meaning of commands and tags follows
//! Twitch's documentation (dev.twitch.tv/docs/chat/irc).

use crest_core::WallTime;
use crest_core::chat::ChatKind;
use twitch_irc::message::{IRCMessage, IRCPrefix};

use crate::chat::heard::{Heard, MAX_EMOTES, Removal, Removed, Said};

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// The server wants to hear this back.
    Ping(String),
    /// The server took the login.
    Welcome,
    /// The server is about to close the connection; connect again.
    Reconnect,
    /// The channel is followed from now on.
    Joined(String),
    /// The channel cannot be followed, with the server's reason.
    Refused(String, String),
    /// The server says something of the connection itself: why it does not take the login.
    Told(String),
    /// Something in a channel.
    Heard(String, Heard),
    /// Nothing that matters here.
    Other,
}

/// Reads a line that arrived at `now`; `None` where it is no line of IRC, or lacks what it must have.
pub(crate) fn read(line: &str, now: WallTime) -> Option<Line> {
    let message = IRCMessage::parse(line).ok()?;
    Some(match message.command.as_str() {
        "PING" => Line::Ping(param(&message, 0).unwrap_or_default().to_owned()),
        "001" => Line::Welcome,
        "RECONNECT" => Line::Reconnect,
        // The capability that tells of others' joins is not asked for.
        "JOIN" | "ROOMSTATE" => Line::Joined(channel(&message)?),
        "NOTICE" => match refusal(&message) {
            Some((channel, reason)) => Line::Refused(channel, reason),
            None if param(&message, 0) == Some("*") => Line::Told(brief(param(&message, 1)?)),
            None => Line::Other,
        },
        "PRIVMSG" => Line::Heard(channel(&message)?, Heard::Said(written(&message, now)?)),
        "USERNOTICE" => match kind_of_notice(tag(&message, "msg-id")?) {
            Some(kind) => Line::Heard(channel(&message)?, Heard::Said(noticed(&message, kind, now)?)),
            None => Line::Other,
        },
        "CLEARMSG" => removed(&message, Removed::Message(tag(&message, "target-msg-id")?.to_owned()), now)?,
        "CLEARCHAT" => match param(&message, 1) {
            Some(login) => removed(&message, Removed::Author(login.to_owned()), now)?,
            None => removed(&message, Removed::All, now)?,
        },
        _ => Line::Other,
    })
}

fn removed(message: &IRCMessage, what: Removed, now: WallTime) -> Option<Line> {
    Some(Line::Heard(channel(message)?, Heard::Removed(Removal { what, at: sent(message, now) })))
}

/// A message in the chat, with bits or without.
fn written(message: &IRCMessage, now: WallTime) -> Option<Said> {
    let Some(IRCPrefix::Full { nick, .. }) = &message.prefix else { return None };
    let text = text(param(message, 1)?);
    let bits = tag(message, "bits").and_then(|bits| bits.parse().ok()).filter(|bits| *bits > 0);
    let kind = if bits.is_some() { ChatKind::Bits } else { ChatKind::Message };
    Some(said(message, nick, text, kind, bits, now)?.bounded())
}

/// What Twitch tells the chat of somebody; with a text where they wrote one.
fn noticed(message: &IRCMessage, kind: ChatKind, now: WallTime) -> Option<Said> {
    let text = text(param(message, 1).unwrap_or_default());
    Some(said(message, tag(message, "login")?, text, kind, None, now)?.bounded())
}

fn said(
    message: &IRCMessage,
    login: &str,
    text: &str,
    kind: ChatKind,
    bits: Option<u32>,
    now: WallTime,
) -> Option<Said> {
    Some(Said {
        id: tag(message, "id")?.to_owned(),
        at: sent(message, now),
        author: login.to_owned(),
        user: login.to_owned(),
        text: text.to_owned(),
        kind,
        emotes: tag(message, "emotes").map(|emotes| names(emotes, text)).unwrap_or_default(),
        bits,
    })
}

/// `/me` wraps a text.
fn text(raw: &str) -> &str {
    raw.strip_prefix("\u{1}ACTION ").and_then(|rest| rest.strip_suffix('\u{1}')).unwrap_or(raw)
}

/// What `msg-id` of a USERNOTICE means; `None` for what nobody in the chat did.
fn kind_of_notice(id: &str) -> Option<ChatKind> {
    match id {
        "sub"
        | "resub"
        | "subgift"
        | "anonsubgift"
        | "submysterygift"
        | "anonsubmysterygift"
        | "giftpaidupgrade"
        | "anongiftpaidupgrade"
        | "primepaidupgrade"
        | "standardpayforward"
        | "communitypayforward"
        | "extendsub" => Some(ChatKind::Sub),
        "raid" => Some(ChatKind::Raid),
        "announcement" => Some(ChatKind::Message),
        _ => None,
    }
}

/// The names of emotes, out of `id:first-last,first-last/id:..`, positions being characters of the text.
fn names(emotes: &str, text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let places = emotes.split('/').filter_map(|emote| emote.split_once(':')).flat_map(|(_, places)| places.split(','));
    let name = |place: &str| {
        let (first, last) = place.split_once('-')?;
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        // Places behind the end happen; what there is of such a name is none.
        Some(characters.get(first..=last)?.iter().collect())
    };
    places.filter_map(name).take(MAX_EMOTES).collect()
}

/// A notice that a channel cannot be followed.
fn refusal(message: &IRCMessage) -> Option<(String, String)> {
    let refused = ["msg_banned", "msg_channel_suspended", "msg_channel_blocked", "tos_ban"];
    let id = tag(message, "msg-id").filter(|id| refused.contains(id))?;
    let reason = param(message, 1).unwrap_or(id);
    Some((channel(message)?, brief(reason)))
}

/// As much of a reason as is shown.
fn brief(reason: &str) -> String {
    reason.chars().take(200).collect()
}

fn sent(message: &IRCMessage, now: WallTime) -> WallTime {
    tag(message, "tmi-sent-ts").and_then(|at| at.parse().ok()).map_or(now, WallTime)
}

fn channel(message: &IRCMessage) -> Option<String> {
    param(message, 0)?.strip_prefix('#').filter(|name| !name.is_empty()).map(str::to_owned)
}

fn param(message: &IRCMessage, index: usize) -> Option<&str> {
    message.params.get(index).map(String::as_str)
}

fn tag<'a>(message: &'a IRCMessage, name: &str) -> Option<&'a str> {
    message.tags.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
