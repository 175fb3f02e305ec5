//! Settings of Twitch's API.

use bytesize::ByteSize;
use crest_core::units::Span;
use serde::Deserialize;

/// Twitch's API and EventSub: which channels are live. Used only where both `client_id` and `token` are set.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwitchApiConfig {
    /// The id of an application at Twitch.
    pub client_id: Option<String>,
    /// A user access token of that application; it needs no scope. Twitch takes no other kind for EventSub over a
    /// WebSocket.
    pub token: Option<String>,
    /// Where the API is.
    pub api_url: String,
    /// Where EventSub is: `wss://..`, or `ws://..` without TLS.
    pub eventsub_url: String,
    /// Channels that are waited for at most; streams of others are tried with pauses, as without a token.
    pub channels: usize,
    /// How often all channels are asked about, beside EventSub: what it did not tell is learned then.
    pub look_again: Span,
    /// How long connecting, or an answer, may take.
    pub timeout: Span,
    /// The longest pause before connecting again. The first is a second; each is about double the one before.
    pub longest_pause: Span,
    /// How long it takes until what Twitch refused is asked for again: a token, a channel, room for subscriptions.
    pub refused: Span,
    /// The largest message of EventSub that is read.
    pub message: ByteSize,
    /// The largest answer of the API that is read.
    pub answer: ByteSize,
}

impl TwitchApiConfig {
    /// The client's id and the token, where they are set.
    pub(super) fn credentials(&self) -> Option<(&str, &str)> {
        let set = |text: &'_ Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).is_some();
        if !set(&self.client_id) || !set(&self.token) {
            return None;
        }
        let token = self.token.as_deref()?.trim();
        Some((self.client_id.as_deref()?.trim(), token.strip_prefix("oauth:").unwrap_or(token)))
    }
}

impl Default for TwitchApiConfig {
    fn default() -> Self {
        Self {
            client_id: None,
            token: None,
            api_url: "https://api.twitch.tv/helix".to_owned(),
            eventsub_url: "wss://eventsub.wss.twitch.tv/ws".to_owned(),
            channels: 300,
            look_again: Span::secs(300),
            timeout: Span::secs(10),
            longest_pause: Span::secs(120),
            refused: Span::secs(300),
            message: ByteSize::kib(64),
            answer: ByteSize::mib(1),
        }
    }
}
