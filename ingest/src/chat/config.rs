//! Settings of the chats that crest follows.

use bytesize::ByteSize;
use crest_core::units::Span;
use serde::Deserialize;

/// How chats of platforms are followed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatConfig {
    /// What a platform told of one stream's chat and waits to be placed and appended. When it is full, the
    /// platform is not read until there is room.
    pub queue: usize,
    /// Messages of one stream that are remembered, so that they can be removed when their author is banned.
    pub remembered: usize,
    /// Twitch.
    pub twitch: TwitchConfig,
    /// YouTube.
    pub youtube: YoutubeConfig,
}

impl Default for ChatConfig {
    fn default() -> Self {
        Self { queue: 1024, remembered: 2000, twitch: TwitchConfig::default(), youtube: YoutubeConfig::default() }
    }
}

/// Twitch's chat: IRC, without an account.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwitchConfig {
    /// The server: `ircs://host:port` with TLS, `irc://host:port` without.
    pub server: String,
    /// Channels on one connection; more are followed on further connections.
    pub channels: usize,
    /// How long connecting, or sending a line, may take.
    pub timeout: Span,
    /// After this long without a line the server is asked whether it is there, and given up after as long
    /// again.
    pub idle: Span,
    /// The longest pause before connecting again. The first is a second; each is about double the one before.
    pub longest_pause: Span,
    /// How long it takes until a channel that the server refused is asked for again.
    pub refused: Span,
    /// The longest line that is read, in bytes; longer ones are left out and counted.
    pub line_bytes: usize,
}

impl Default for TwitchConfig {
    fn default() -> Self {
        Self {
            server: "ircs://irc.chat.twitch.tv:6697".to_owned(),
            channels: 90,
            timeout: Span::secs(10),
            idle: Span::secs(60),
            longest_pause: Span::secs(120),
            refused: Span::secs(300),
            line_bytes: 16 * 1024,
        }
    }
}

/// YouTube's live chat, through the Data API v3.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct YoutubeConfig {
    /// The key of a Google Cloud project with the YouTube Data API v3. Without one no chat of YouTube is
    /// followed.
    pub api_key: Option<String>,
    /// Where the API is.
    pub base_url: String,
    /// Units of the API that may be used a day; the day ends at midnight Pacific Time. This process counts its
    /// own, from its start.
    pub daily_quota: u32,
    /// How long a day's quota is to last: over this time of following it is spread evenly among the streams.
    /// Shorter, and chat arrives sooner; what lies after it is not followed until the next day.
    pub spread: Span,
    /// How long connecting, or an answer that is no stream, may take.
    pub timeout: Span,
    /// After this long without a page a stream is opened again, where the last page ended. It may be that nobody
    /// wrote; but nothing else shows that YouTube has forgotten an open connection. Each time costs 5 units.
    pub silence: Span,
    /// The largest answer, or page of a stream, that is read.
    pub answer: ByteSize,
    /// The longest pause after failures. The first is a second; each is about double the one before.
    pub longest_pause: Span,
}

impl YoutubeConfig {
    /// The key, where one is set.
    pub fn key(&self) -> Option<&str> {
        self.api_key.as_deref().map(str::trim).filter(|key| !key.is_empty())
    }
}

impl Default for YoutubeConfig {
    fn default() -> Self {
        Self {
            api_key: None,
            base_url: "https://www.googleapis.com/youtube/v3".to_owned(),
            daily_quota: 10_000,
            spread: Span::secs(4 * 3600),
            timeout: Span::secs(15),
            silence: Span::secs(600),
            answer: ByteSize::mib(16),
            longest_pause: Span::secs(300),
        }
    }
}
