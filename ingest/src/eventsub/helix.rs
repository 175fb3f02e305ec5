//! The requests to Twitch's API that waiting for channels takes, and what its refusals mean
//! (dev.twitch.tv/docs/api/reference).

use crest_core::{Error, Result};
use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

use super::config::TwitchApiConfig;

/// Channels that can be asked about at once.
pub(super) const AT_ONCE: usize = 100;

/// A client of the API.
pub(super) struct Helix {
    client: Client,
    base: Url,
    client_id: String,
    token: String,
    answer: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is not taken; a person has to see to it.
    Token(String),
    /// There are as many subscriptions, or requests, as Twitch allows.
    Full(String),
    /// A failure that passes.
    Passing(String),
    /// What was asked for cannot be had.
    Wrong(String),
}

/// What Twitch tells when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Online,
    Offline,
}

/// A subscription, and what all together cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscribed {
    pub(super) id: String,
    pub(super) cost: u64,
    pub(super) most: u64,
}

#[derive(Deserialize)]
struct Data<T> {
    data: Vec<T>,
}

#[derive(Deserialize)]
struct User {
    id: String,
    login: String,
}

#[derive(Deserialize)]
struct Stream {
    user_login: String,
}

#[derive(Deserialize)]
struct Subscriptions {
    data: Vec<Id>,
    #[serde(default)]
    total_cost: u64,
    max_total_cost: Option<u64>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Helix {
    /// The error names the setting that is wrong; `None` where no token is set.
    pub(super) fn new(config: &TwitchApiConfig) -> Result<Option<Self>> {
        let Some((client_id, token)) = config.credentials() else {
            if config.client_id.is_some() != config.token.is_some() {
                return Err(Error::user("twitch.client_id and twitch.token go together: set both, or none"));
            }
            return Ok(None);
        };
        let base = config.api_url.trim_end_matches('/');
        let base = Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let base = base.ok_or_else(|| Error::user("twitch.api_url must begin with https:// or http://"))?;
        // Another part of the process may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(config.timeout.0)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .build()
            .map_err(|error| Error::ours(format!("no client for Twitch's API: {error}")))?;
        let answer = usize::try_from(config.answer.as_u64()).unwrap_or(usize::MAX);
        Ok(Some(Self { client, base, client_id: client_id.to_owned(), token: token.to_owned(), answer }))
    }

    /// The ids of at most [`AT_ONCE`] login names; those that do not exist are left out.
    pub(super) async fn users(&self, logins: &[String]) -> Result<HashMap<String, String>, Refusal> {
        let query: Vec<_> = logins.iter().map(|login| ("login", login.as_str())).collect();
        let found: Data<User> = self.ask(Method::GET, "users", &query, None).await?;
        Ok(found.data.into_iter().map(|user| (user.login.to_ascii_lowercase(), user.id)).collect())
    }

    /// Which of at most [`AT_ONCE`] channels are live.
    pub(super) async fn live(&self, logins: &[String]) -> Result<HashSet<String>, Refusal> {
        let mut query: Vec<_> = logins.iter().map(|login| ("user_login", login.as_str())).collect();
        query.push(("first", "100"));
        let found: Data<Stream> = self.ask(Method::GET, "streams", &query, None).await?;
        Ok(found.data.into_iter().map(|stream| stream.user_login.to_ascii_lowercase()).collect())
    }

    /// Has EventSub tell a session of a channel.
    pub(super) async fn subscribe(&self, session: &str, user: &str, kind: Kind) -> Result<Subscribed, Refusal> {
        let kind = match kind {
            Kind::Online => "stream.online",
            Kind::Offline => "stream.offline",
        };
        let body = json!({
            "type": kind,
            "version": "1",
            "condition": { "broadcaster_user_id": user },
            "transport": { "method": "websocket", "session_id": session },
        });
        let made = self.ask(Method::POST, "eventsub/subscriptions", &[], Some(body)).await;
        let made: Subscriptions = made.map_err(|refusal| match refusal {
            // Not the channel: the session is gone at Twitch's side, and that is not known here yet.
            Refusal::Wrong(said) if said.contains("session") => Refusal::Passing(said),
            other => other,
        })?;
        let id = made.data.into_iter().next().map(|one| one.id);
        let id = id.ok_or_else(|| Refusal::Passing("Twitch's answer has no subscription in it".to_owned()))?;
        Ok(Subscribed { id, cost: made.total_cost, most: made.max_total_cost.unwrap_or(u64::MAX) })
    }

    /// Ends a subscription.
    pub(super) async fn unsubscribe(&self, id: &str) -> Result<(), Refusal> {
        self.ask::<Value>(Method::DELETE, "eventsub/subscriptions", &[("id", id)], None).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<T, Refusal> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url.query_pairs_mut().extend_pairs(query);
        let mut request =
            self.client.request(method, url).bearer_auth(&self.token).header("Client-Id", &self.client_id);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let passing =
            |error: reqwest::Error| Refusal::Passing(format!("Twitch does not answer: {}", error.without_url()));
        let mut response = request.send().await.map_err(passing)?;
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(passing)? {
            if body.len() + chunk.len() > self.answer {
                return Err(Refusal::Passing("Twitch's answer is larger than twitch.answer".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        let body = if body.is_empty() { b"null" } else { &body[..] };
        let undocumented = |error| Refusal::Passing(format!("Twitch's answer is not what is documented: {error}"));
        serde_json::from_slice(body).map_err(undocumented)
    }
}

/// What an error means for whoever waits.
fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let message: String = said["message"].as_str().unwrap_or_default().chars().take(200).collect();
    let said = format!("Twitch answers {}: {message}", status.as_u16());
    match status {
        StatusCode::UNAUTHORIZED => Refusal::Token(said),
        StatusCode::TOO_MANY_REQUESTS => Refusal::Full(said),
        status if status.is_server_error() => Refusal::Passing(said),
        _ => Refusal::Wrong(said),
    }
}
