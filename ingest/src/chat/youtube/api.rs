//! The three requests to YouTube's Data API v3 that following a chat takes, and what its errors mean. As documented at
//! developers.google.com/youtube/v3/live/docs/liveChatMessages/list; the method that streams is in Google's discovery
//! document of the API (`youtube.liveChat.messages.stream`).

use crest_core::{Error, Result};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

use super::stream::Stream;
use crate::chat::YoutubeConfig;

/// The most messages of one answer.
const MESSAGES: &str = "2000";
/// Reasons with which it is the chat or the key that is refused, not the method.
const KNOWN: [&str; 6] =
    ["liveChatEnded", "liveChatDisabled", "liveChatNotFound", "pageTokenInvalid", "keyInvalid", "quotaExceeded"];

/// A client of the API.
pub(super) struct Api {
    client: Client,
    base: Url,
    key: String,
    timeout: Duration,
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
    /// The method that streams is not there, or its answer is no stream.
    NoStream(String),
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
    /// Only in a stream, which ends with it.
    pub(super) error: Option<Failed>,
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
pub(super) struct Failed {
    code: u16,
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
                .connect_timeout(config.timeout.0)
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
        Ok(Self { client, base, key, timeout: config.timeout.0, answer })
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
        self.get("liveChat/messages", &new_since(chat, page)).await
    }

    /// The same, and then what is written as long as the connection lasts. No answer's time is bounded here.
    pub(super) async fn stream(&self, chat: &str, page: Option<&str>) -> Result<Stream, Refusal> {
        let request = self.client.get(self.url("liveChat/messages/stream", &new_since(chat, page)));
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        if status.is_success() {
            return Ok(Stream::new(response, self.answer));
        }
        let body = tokio::time::timeout(self.timeout, self.body(response)).await;
        let failed = failed(&body.unwrap_or_else(|_| Ok(Vec::new()))?);
        let known = failed.reason().is_some_and(|reason| KNOWN.contains(&reason));
        Err(match status.as_u16() {
            400 | 404 | 405 | 501 if !known => Refusal::NoStream(format!("YouTube answers {}", status.as_u16())),
            _ => refusal(status, &failed),
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Refusal> {
        let response = self.client.get(self.url(path, query)).timeout(self.timeout).send().await.map_err(silent)?;
        let status = response.status();
        let body = self.body(response).await?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| Refusal::Passing(format!("YouTube's answer is not what is documented: {error}")));
        }
        Err(refusal(status, &failed(&body)))
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url.query_pairs_mut().extend_pairs(query).append_pair("key", &self.key);
        url
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Refusal> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            if body.len() + chunk.len() > self.answer {
                return Err(Refusal::Passing("YouTube's answer is larger than chat.youtube.answer".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// What is asked for, whether as a stream or not.
fn new_since<'a>(chat: &'a str, page: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
    let mut query = vec![("liveChatId", chat), ("part", "id,snippet,authorDetails"), ("maxResults", MESSAGES)];
    query.extend(page.map(|page| ("pageToken", page)));
    query
}

/// No answer.
fn silent(error: reqwest::Error) -> Refusal {
    Refusal::Passing(format!("YouTube does not answer: {}", chain(error)))
}

/// An error and what caused it, without the address: that has the key in it.
pub(super) fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let (mut text, mut source) = (error.to_string(), std::error::Error::source(&error));
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Failed {
    /// What it means for the follower, told within a stream.
    pub(super) fn refusal(&self) -> Refusal {
        refusal(StatusCode::from_u16(self.code).unwrap_or(StatusCode::BAD_GATEWAY), self)
    }

    fn reason(&self) -> Option<&str> {
        self.errors.first().map(|error| error.reason.as_str())
    }
}

/// The error that an answer tells; of the method that streams it is the only element of an array.
fn failed(body: &[u8]) -> Failed {
    // An array first: serde would read one as an object's fields.
    let failures: Result<Vec<Failure>, _> = serde_json::from_slice(body);
    let failure = failures.ok().and_then(|failures| failures.into_iter().next());
    failure.unwrap_or_else(|| serde_json::from_slice(body).unwrap_or_default()).error
}

/// What an error means for the follower.
fn refusal(status: StatusCode, failed: &Failed) -> Refusal {
    let reason = failed.reason().unwrap_or_default();
    let said = || {
        let message: String = failed.message.chars().take(200).collect();
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
    use serde_json::json;

    #[test]
    fn errors_are_told_apart() {
        let failed = |status: u16, reason: &str| {
            let error = json!({"error": {"code": status, "message": "why", "errors": [{"reason": reason}]}});
            let (plain, streamed) =
                (failed(error.to_string().as_bytes()), failed(json!([error]).to_string().as_bytes()));
            assert_eq!(plain.refusal(), streamed.refusal());
            plain
        };
        let refused = |status: u16, reason: &str| failed(status, reason).refusal();
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
