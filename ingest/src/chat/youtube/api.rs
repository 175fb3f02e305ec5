//! The two requests to YouTube's Data API v3 that following a chat takes, and what its errors mean. As documented at
//! developers.google.com/youtube/v3/live/docs/liveChatMessages/list.

use crest_core::{Error, Result};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

use crate::chat::YoutubeConfig;

/// The most messages of one answer.
const MESSAGES: &str = "2000";

/// A client of the API.
pub(super) struct Api {
    client: Client,
    base: Url,
    key: String,
    answer: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The day's units are used up.
    Quota,
    /// Asked too soon, or a failure that passes.
    Passing(String),
    /// The chat is over.
    Over,
    /// There is no such chat, or it may not be read; a person has to see to it.
    Wrong(String),
}

/// New messages.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Page {
    /// As they are: one that is not understood does not spoil the others.
    pub(super) items: Vec<Value>,
    pub(super) next_page_token: Option<String>,
    pub(super) polling_interval_millis: u64,
    /// Set once the broadcast is over.
    pub(super) offline_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Videos {
    items: Vec<Video>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Video {
    live_streaming_details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    active_live_chat_id: Option<String>,
    actual_end_time: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Failure {
    error: Failed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Failed {
    message: String,
    errors: Vec<Reason>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    reason: String,
}

impl Api {
    /// The error names the setting that is wrong.
    pub(super) fn new(config: &YoutubeConfig, key: String) -> Result<Self> {
        let base = config.base_url.trim_end_matches('/');
        let base = Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let base = base.ok_or_else(|| {
            Error::user(format!(
                "chat.youtube.base_url is '{}', but must begin with https:// or http://",
                config.base_url
            ))
        })?;
        // Another part of the process may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            Client::builder()
                .timeout(config.timeout.0)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .pool_idle_timeout(Duration::from_secs(60))
        };
        let client = builder().build().or_else(|error| {
            tracing::warn!(%error, "no certificates of authorities on this system: YouTube's chats cannot be followed; install ca-certificates");
            builder().tls_certs_only([]).build()
        });
        let client = client.map_err(|error| Error::ours(format!("no HTTP client: {error}")))?;
        let answer = usize::try_from(config.answer.as_u64()).unwrap_or(usize::MAX);
        Ok(Self { client, base, key, answer })
    }

    /// The id of a broadcast's chat; `None` while it has none.
    pub(super) async fn chat_of(&self, video: &str) -> Result<Option<String>, Refusal> {
        let query = [("part", "liveStreamingDetails"), ("id", video)];
        let videos: Videos = self.get("videos", &query).await?;
        let Some(video_found) = videos.items.into_iter().next() else {
            return Err(Refusal::Wrong(format!("YouTube has no video '{video}', or it is private")));
        };
        let details = video_found.live_streaming_details;
        match details.active_live_chat_id {
            None if details.actual_end_time.is_some() => Err(Refusal::Over),
            chat => Ok(chat),
        }
    }

    /// What is new in a chat after a page; without one, what there is of its past.
    pub(super) async fn messages(&self, chat: &str, page: Option<&str>) -> Result<Page, Refusal> {
        let mut query = vec![("liveChatId", chat), ("part", "id,snippet,authorDetails"), ("maxResults", MESSAGES)];
        query.extend(page.map(|page| ("pageToken", page)));
        self.get("liveChat/messages", &query).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Refusal> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url.query_pairs_mut().extend_pairs(query).append_pair("key", &self.key);
        // The address has the key in it: it must not be told along.
        let passing = |error| Refusal::Passing(format!("YouTube does not answer: {}", chain(error)));
        let mut response = self.client.get(url).send().await.map_err(passing)?;
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(passing)? {
            if body.len() + chunk.len() > self.answer {
                return Err(Refusal::Passing("YouTube's answer is larger than chat.youtube.answer".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| Refusal::Passing(format!("YouTube's answer is not what is documented: {error}")));
        }
        Err(refusal(status, &serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// An error and what caused it, without the address.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let (mut text, mut source) = (error.to_string(), std::error::Error::source(&error));
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What an error means for the follower.
fn refusal(status: StatusCode, failure: &Failure) -> Refusal {
    let reason = failure.error.errors.first().map(|error| error.reason.as_str()).unwrap_or_default();
    let said = || {
        let message: String = failure.error.message.chars().take(200).collect();
        format!("YouTube answers {}: {reason} {message}", status.as_u16())
    };
    match reason {
        "quotaExceeded" | "dailyLimitExceeded" => Refusal::Quota,
        "rateLimitExceeded" | "userRateLimitExceeded" => Refusal::Passing(said()),
        "liveChatEnded" => Refusal::Over,
        _ if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => Refusal::Passing(said()),
        "keyInvalid" | "accessNotConfigured" | "ipRefererBlocked" => {
            Refusal::Wrong(format!("{}; check chat.youtube.api_key", said()))
        }
        _ => Refusal::Wrong(said()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let failure = |reason: &str| Failure {
            error: Failed { message: "why".to_owned(), errors: vec![Reason { reason: reason.to_owned() }] },
        };
        let refused =
            |status: u16, reason: &str| refusal(StatusCode::from_u16(status).unwrap_or_default(), &failure(reason));
        assert_eq!(refused(403, "quotaExceeded"), Refusal::Quota);
        assert_eq!(refused(403, "liveChatEnded"), Refusal::Over);
        for (status, reason) in [(403, "rateLimitExceeded"), (503, "backendError"), (429, "")] {
            assert!(matches!(refused(status, reason), Refusal::Passing(_)), "{reason}");
        }
        for (status, reason) in
            [(403, "liveChatDisabled"), (404, "liveChatNotFound"), (400, "keyInvalid"), (403, "forbidden")]
        {
            assert!(matches!(refused(status, reason), Refusal::Wrong(said) if said.contains(reason)), "{reason}");
        }
    }
}
