//! Where webhooks arrive: a receiver on loopback that keeps every request as it came.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::wait_for;
use crate::server::Api;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
}

impl Received {
    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The event's type.
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }

    /// What it tells.
    pub fn data(&self) -> Value {
        self.json()["data"].take()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A webhook endpoint of one organization. Dropping it stops it.
pub struct Receiver {
    received: Arc<Mutex<Vec<Received>>>,
    serving: JoinHandle<()>,
    /// What its webhooks are signed with.
    pub secret: String,
    /// Its id in the API.
    pub id: String,
}

impl Receiver {
    /// Listens, and tells crest so.
    pub async fn register(api: &Api) -> Result<Self> {
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let accept = move |headers: HeaderMap, body: Bytes| async move {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(Received { headers, body });
            StatusCode::NO_CONTENT
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, Router::new().route("/hook", post(accept))).await;
        });
        let made = api.post("/v1/webhooks", json!({ "url": url })).await?;
        let text = |name: &str| made[name].as_str().map(str::to_owned).with_context(|| format!("no {name}: {made}"));
        Ok(Self { received, serving, secret: text("secret")?, id: text("id")? })
    }

    /// Everything so far, in the order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The types of everything so far.
    pub fn kinds(&self) -> Vec<String> {
        self.received().iter().map(Received::kind).collect()
    }

    /// Waits for the `count`-th event of a type.
    pub async fn wait_for(&self, kind: &str, count: usize, limit: Duration) -> Result<Received> {
        let nth = || async { Ok(self.received().into_iter().filter(|r| r.kind() == kind).nth(count - 1)) };
        wait_for(&format!("{kind} number {count}"), limit, nth)
            .await
            .with_context(|| format!("what arrived is {:?}", self.kinds()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
