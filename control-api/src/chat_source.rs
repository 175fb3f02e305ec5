//! The chat that a stream names: names and addresses as people have them become what a follower needs.

use crest_core::chat::ChatSource;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::codes::Code;
use crate::problem::Problem;

/// The longest address that is looked at, in bytes.
const MAX_ADDRESS_BYTES: usize = 500;
/// The longest login name at Twitch.
const MAX_LOGIN: usize = 25;
/// Characters of a video id at YouTube.
const VIDEO_ID: usize = 11;

/// The chat of a broadcast on a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "platform", rename_all = "snake_case", deny_unknown_fields)]
pub enum Chat {
    /// The chat of a Twitch channel.
    Twitch {
        /// The channel's login name, or its address `https://www.twitch.tv/name`; shown as login name.
        #[schema(example = "name")]
        channel: String,
    },
    /// The live chat of a YouTube broadcast.
    Youtube {
        /// The broadcast's video id, or its address `https://youtu.be/ID` or
        /// `https://www.youtube.com/watch?v=ID`; shown as video id.
        #[schema(example = "dQw4w9WgXcQ")]
        video_id: String,
    },
}

impl From<&ChatSource> for Chat {
    fn from(source: &ChatSource) -> Self {
        match source.clone() {
            ChatSource::Twitch { channel } => Self::Twitch { channel },
            ChatSource::Youtube { video_id } => Self::Youtube { video_id },
        }
    }
}

impl Chat {
    /// What a follower needs, or what is wrong. `youtube`: whether this server can follow chats there.
    pub fn source(self, youtube: bool) -> Result<ChatSource, Problem> {
        let wrong = |detail: &str| Problem::new(Code::InvalidRequest, detail);
        match self {
            Self::Twitch { channel } => login(&channel).map(|channel| ChatSource::Twitch { channel }).ok_or_else(|| {
                wrong("chat.channel: send a channel's login name, 1 to 25 letters, digits or _, or https://www.twitch.tv/name.")
            }),
            Self::Youtube { video_id } => {
                let Some(video_id) = video(&video_id) else {
                    return Err(wrong(
                        "chat.video_id: send a broadcast's id of 11 characters, https://youtu.be/ID or \
                         https://www.youtube.com/watch?v=ID.",
                    ));
                };
                if !youtube {
                    return Err(Problem::new(
                        Code::ChatNotConfigured,
                        "chat: this server has no key for YouTube's API; its operator sets chat.youtube.api_key.",
                    ));
                }
                Ok(ChatSource::Youtube { video_id })
            }
        }
    }
}

/// The login name, in lower case.
fn login(text: &str) -> Option<String> {
    let text = text.trim();
    let name = match address(text) {
        Some((host, path, _)) if is_at(&host, "twitch.tv") => path.trim_matches('/'),
        Some(_) => return None,
        None => text,
    };
    let fits = (1..=MAX_LOGIN).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    fits.then(|| name.to_ascii_lowercase())
}

/// The video id; its case matters.
fn video(text: &str) -> Option<String> {
    let text = text.trim();
    let id = match address(text) {
        Some((host, path, _)) if is_at(&host, "youtu.be") => path.trim_matches('/'),
        Some((host, path, query)) if is_at(&host, "youtube.com") => match path.trim_matches('/') {
            "watch" => query.split('&').find_map(|pair| pair.strip_prefix("v="))?,
            path => path.strip_prefix("live/")?,
        },
        Some(_) => return None,
        None => text,
    };
    let fits = id.len() == VIDEO_ID && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    fits.then(|| id.to_owned())
}

/// Host in lower case, path and query of an address; `None` where it is none, but perhaps a name.
fn address(text: &str) -> Option<(String, &str, &str)> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.or_else(|| text.contains('/').then_some(text))?;
    let rest = rest.get(..rest.len().min(MAX_ADDRESS_BYTES))?.split('#').next()?;
    let (host, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Some((host.to_ascii_lowercase(), path, query))
}

/// Whether a host is this one, perhaps its `www.` or `m.`.
fn is_at(host: &str, site: &str) -> bool {
    host.strip_prefix("www.").or_else(|| host.strip_prefix("m.")).unwrap_or(host) == site
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_channels_become_login_names() {
        for text in
            ["Shroud", " shroud ", "https://www.twitch.tv/Shroud", "http://m.twitch.tv/shroud/?x=1", "twitch.tv/shroud"]
        {
            assert_eq!(login(text).as_deref(), Some("shroud"), "{text}");
        }
        let long = "a".repeat(26);
        for text in [
            "",
            "a b",
            "a-b",
            "#a",
            "https://www.twitch.tv/",
            "https://www.twitch.tv/a/videos",
            "https://x.test/a",
            &long,
        ] {
            assert_eq!(login(text), None, "{text}");
        }
    }

    #[test]
    fn ids_and_addresses_of_broadcasts_become_video_ids() {
        for text in [
            "aB3_-9xYz01",
            "https://youtu.be/aB3_-9xYz01",
            "https://youtu.be/aB3_-9xYz01?t=5",
            "https://www.youtube.com/watch?app=desktop&v=aB3_-9xYz01#t=1",
            "https://m.youtube.com/live/aB3_-9xYz01?feature=share",
            "youtube.com/watch?v=aB3_-9xYz01",
        ] {
            assert_eq!(video(text).as_deref(), Some("aB3_-9xYz01"), "{text}");
        }
        for text in
            ["", "short", "https://youtu.be/", "https://www.youtube.com/watch", "https://x.test/watch?v=aB3_-9xYz01"]
        {
            assert_eq!(video(text), None, "{text}");
        }
    }
}
