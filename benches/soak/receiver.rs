//! Where the webhooks of one stream arrive: a server of its own on loopback, gone with the stream.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::crest::Api;

/// A webhook endpoint of one organization. Dropping it closes it.
pub struct Receiver {
    kinds: watch::Receiver<Vec<String>>,
    serving: JoinHandle<()>,
}

impl Receiver {
    /// Listens, and tells crest so.
    pub async fn register(api: &Api) -> Result<Self> {
        let (sender, kinds) = watch::channel(Vec::new());
        let accept = move |body: Bytes| async move {
            let event: Value = serde_json::from_slice(&body).unwrap_or_default();
            sender.send_modify(|kinds| kinds.push(event["type"].as_str().unwrap_or_default().to_owned()));
            StatusCode::NO_CONTENT
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, Router::new().route("/hook", post(accept))).await;
        });
        api.post("/v1/webhooks", json!({ "url": url })).await?;
        Ok(Self { kinds, serving })
    }

    /// Waits for an event of this type.
    pub async fn wait_for(&self, kind: &str, limit: Duration) -> Result<()> {
        let mut kinds = self.kinds.clone();
        let told = tokio::time::timeout(limit, kinds.wait_for(|kinds| kinds.iter().any(|k| k == kind))).await;
        told.map(|_| ()).with_context(|| format!("{kind} did not come; what came is {:?}", self.kinds.borrow()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
