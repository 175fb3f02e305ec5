//! What EventSub's messages say (dev.twitch.tv/docs/eventsub/websocket-reference), and which of them count.

use crest_core::WallTime;
use serde::Deserialize;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

/// Messages that are remembered: Twitch may send one twice.
const REMEMBERED: usize = 1000;
/// Messages that are older do not count (dev.twitch.tv/docs/eventsub/handling-websocket-events): somebody may have
/// recorded them.
const OLD: i64 = 600_000;
/// The longest silence that a server can announce.
const SILENCE: u64 = 600;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) at: WallTime,
    pub(super) says: Says,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    /// The first one: the session that subscriptions are made for, and the longest silence to expect.
    Welcome { session: String, silence: Duration },
    /// The connection stands.
    Keepalive,
    /// The channel of this user went live.
    Online(String),
    /// It is not live any more.
    Offline(String),
    /// The connection must be made anew, at this address.
    Reconnect(String),
    /// A subscription is over, and why.
    Revoked { subscription: String, status: String },
    /// Something else.
    Other,
}

#[derive(Deserialize)]
struct Envelope {
    metadata: Metadata,
    #[serde(default)]
    payload: Payload,
}

#[derive(Deserialize)]
struct Metadata {
    message_id: String,
    message_type: String,
    message_timestamp: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    session: Option<Session>,
    subscription: Option<Subscription>,
    event: Option<Event>,
}

#[derive(Deserialize)]
struct Session {
    id: String,
    keepalive_timeout_seconds: Option<u64>,
    reconnect_url: Option<String>,
}

#[derive(Deserialize)]
struct Subscription {
    id: String,
    #[serde(default)]
    status: String,
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize)]
struct Event {
    broadcaster_user_id: Option<String>,
}

/// Reads a message; `None` where it is none that is documented.
pub(super) fn read(text: &str) -> Option<Message> {
    let Envelope { metadata, payload } = serde_json::from_str(text).ok()?;
    let user = || payload.event.as_ref()?.broadcaster_user_id.clone();
    let says = match metadata.message_type.as_str() {
        "session_welcome" => {
            let session = payload.session?;
            let silence = Duration::from_secs(session.keepalive_timeout_seconds.unwrap_or(10).clamp(1, SILENCE));
            Says::Welcome { session: session.id, silence }
        }
        "session_keepalive" => Says::Keepalive,
        "session_reconnect" => Says::Reconnect(payload.session?.reconnect_url?),
        "notification" => match payload.subscription.as_ref()?.kind.as_str() {
            "stream.online" => Says::Online(user()?),
            "stream.offline" => Says::Offline(user()?),
            _ => Says::Other,
        },
        "revocation" => {
            let Subscription { id, status, .. } = payload.subscription?;
            Says::Revoked { subscription: id, status: status.chars().take(60).collect() }
        }
        _ => Says::Other,
    };
    Some(Message { id: metadata.message_id, at: WallTime::parse(&metadata.message_timestamp)?, says })
}

/// The messages that came last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Whether the message counts: it is not too old, and came for the first time.
    pub(super) fn counts(&mut self, message: &Message, now: WallTime) -> bool {
        if message.at.0 < now.0.saturating_sub(OLD) || !self.ids.insert(message.id.clone()) {
            return false;
        }
        self.order.push_back(message.id.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(kind: &str, payload: &str) -> Option<Says> {
        let text = format!(
            r#"{{"metadata":{{"message_id":"m","message_type":"{kind}","message_timestamp":"2026-11-21T10:00:00.123456789Z"}},"payload":{payload}}}"#
        );
        read(&text).map(|message| message.says)
    }

    #[test]
    fn messages_are_told_apart() {
        let welcome = r#"{"session":{"id":"s","status":"connected","connected_at":"x","keepalive_timeout_seconds":10,"reconnect_url":null}}"#;
        let silence = Duration::from_secs(10);
        assert_eq!(message("session_welcome", welcome), Some(Says::Welcome { session: "s".to_owned(), silence }));
        assert_eq!(message("session_keepalive", "{}"), Some(Says::Keepalive));
        let reconnect = r#"{"session":{"id":"s","status":"reconnecting","keepalive_timeout_seconds":null,"reconnect_url":"wss://x/ws?y"}}"#;
        assert_eq!(message("session_reconnect", reconnect), Some(Says::Reconnect("wss://x/ws?y".to_owned())));
        let event = |kind: &str| {
            format!(
                r#"{{"subscription":{{"id":"i","type":"{kind}","status":"enabled","cost":1}},"event":{{"broadcaster_user_id":"7","broadcaster_user_login":"a","type":"live"}}}}"#
            )
        };
        assert_eq!(message("notification", &event("stream.online")), Some(Says::Online("7".to_owned())));
        assert_eq!(message("notification", &event("stream.offline")), Some(Says::Offline("7".to_owned())));
        assert_eq!(message("notification", &event("channel.follow")), Some(Says::Other));
        let revoked = Says::Revoked { subscription: "i".to_owned(), status: "enabled".to_owned() };
        assert_eq!(message("revocation", &event("stream.online")), Some(revoked));
        assert_eq!(message("something_new", "{}"), Some(Says::Other));
        for (kind, payload) in [("session_welcome", "{}"), ("session_reconnect", welcome), ("notification", "{}")] {
            assert_eq!(message(kind, payload), None, "{kind}");
        }
        assert!(read("{}").is_none() && read("").is_none() && read("[1").is_none());
    }

    #[test]
    fn a_message_counts_once_and_not_when_it_is_old() {
        let (mut seen, now) = (Seen::default(), WallTime(1_000_000_000));
        let message =
            |id: usize, ago: i64| Message { id: id.to_string(), at: now.plus_millis(-ago), says: Says::Other };
        assert!(seen.counts(&message(1, 0), now) && !seen.counts(&message(1, 0), now));
        assert!(!seen.counts(&message(2, OLD + 1), now) && seen.counts(&message(3, OLD), now));
        (10..10 + 5 * REMEMBERED).for_each(|id| assert!(seen.counts(&message(id, 0), now)));
        assert_eq!((seen.ids.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
    }
}
