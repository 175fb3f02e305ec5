//! A client of crest's HTTP API, as a tenant would write one.

use anyhow::Context;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(15);
/// Pages of a list that are read at most.
const PAGES: usize = 50;

/// A request that did not do what it should.
#[derive(Debug)]
pub enum ApiError {
    /// No answer.
    NoAnswer(reqwest::Error),
    /// An answer that says no.
    Refused {
        /// What was asked.
        what: String,
        /// The status.
        status: StatusCode,
        /// What the problem document says.
        detail: String,
    },
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoAnswer(error) => write!(f, "the API does not answer: {error}"),
            Self::Refused { what, status, detail } => write!(f, "{what}: the API answered {status}: {detail}"),
        }
    }
}

impl std::error::Error for ApiError {}

impl From<reqwest::Error> for ApiError {
    fn from(error: reqwest::Error) -> Self {
        Self::NoAnswer(error)
    }
}

impl ApiError {
    /// Whether asking again cannot help.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_client_error() && *status != StatusCode::CONFLICT)
    }
}

/// The client.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Api {
    /// For the API at `base` (`http://127.0.0.1:8080`), with an organization's key.
    pub fn new(base: &str, key: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(REQUEST).no_proxy().build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    /// Whether crest is ready to work.
    pub async fn ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.base)).send().await;
        answer.is_ok_and(|a| a.status().is_success())
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.call(Method::GET, path, None).await
    }

    /// Every item of a list. `path` has no query.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, ApiError> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let from = cursor.map_or(String::new(), |c| format!("&cursor={c}"));
            let mut page = self.get(&format!("{path}?limit=100{from}")).await?;
            if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
                items.extend(data);
            }
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// Saves what an address of this API answers; returns its size in bytes.
    pub async fn save(&self, url: &str, to: &Path) -> anyhow::Result<usize> {
        let answer = self.http.get(url).bearer_auth(&self.key).send().await?.error_for_status()?;
        let body = answer.bytes().await?;
        tokio::fs::write(to, &body).await.with_context(|| format!("cannot write {}", to.display()))?;
        Ok(body.len())
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        let what = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(value);
        }
        let detail = value["detail"].as_str().or(value["title"].as_str()).unwrap_or("no reason given").to_owned();
        Err(ApiError::Refused { what, status, detail })
    }
}
