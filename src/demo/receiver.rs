//! Where the webhooks arrive: an HTTP receiver that checks every signature with the
//! `standardwebhooks` crate, as a customer's would.

use anyhow::Context;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use standardwebhooks::Webhook;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;

/// Events that may wait to be shown.
const WAITING: usize = 4096;

/// A verified webhook.
#[derive(Debug)]
pub struct Received {
    /// When it arrived.
    pub at: Instant,
    /// `highlight.ready` and so on.
    pub event: String,
    /// The body's `data`.
    pub data: Value,
}

/// What can be said of all webhooks together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Different events, correctly signed.
    pub events: usize,
    /// Requests whose signature or timestamp was wrong.
    pub bad_signatures: usize,
    /// Events that came more than once (allowed: delivery is at least once).
    pub repeated: usize,
    /// Sequence numbers that never came though later ones did.
    pub missing: Vec<u64>,
}

#[derive(Default)]
struct Seen {
    secret: Option<String>,
    ids: HashSet<String>,
    sequences: BTreeSet<u64>,
    bad_signatures: usize,
    repeated: usize,
}

/// The receiver.
#[derive(Clone)]
pub struct Receiver {
    seen: Arc<Mutex<Seen>>,
    events: mpsc::Sender<Received>,
    /// Where it listens.
    pub url: String,
}

impl Receiver {
    /// Starts listening on a free port of the loopback interface. It serves until its task is
    /// dropped with the runtime.
    pub async fn start() -> anyhow::Result<(Self, mpsc::Receiver<Received>)> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("cannot listen for webhooks")?;
        let url = format!("http://{}/crest", listener.local_addr()?);
        let (events, received) = mpsc::channel(WAITING);
        let receiver = Self { seen: Arc::default(), events, url };
        let router = axum::Router::new().route("/crest", post(accept)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((receiver, received))
    }

    /// The secret that the webhook's creation answered.
    pub fn expect(&self, secret: &str) {
        self.lock().secret = Some(secret.to_owned());
    }

    /// What has arrived so far.
    pub fn tally(&self) -> Tally {
        let seen = self.lock();
        let last = seen.sequences.last().copied().unwrap_or(0);
        Tally {
            events: seen.ids.len(),
            bad_signatures: seen.bad_signatures,
            repeated: seen.repeated,
            missing: (1..=last).filter(|n| !seen.sequences.contains(n)).collect(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a request; the event, unless it is a repetition. `Err` where it is not from crest.
    fn check(&self, at: Instant, headers: &HeaderMap, body: &[u8]) -> Result<Option<Received>, ()> {
        let mut seen = self.lock();
        let webhook = seen.secret.as_deref().and_then(|secret| Webhook::new(secret).ok());
        if webhook.is_none_or(|w| w.verify(body, headers).is_err()) {
            seen.bad_signatures += 1;
            return Err(());
        }
        let id = headers.get("webhook-id").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !seen.ids.insert(id.to_owned()) {
            seen.repeated += 1;
            return Ok(None);
        }
        let mut body: Value = serde_json::from_slice(body).map_err(|_| ())?;
        let event = body["type"].as_str().unwrap_or_default().to_owned();
        let data = body["data"].take();
        seen.sequences.extend(data["sequence"].as_u64());
        Ok(Some(Received { at, event, data }))
    }
}

async fn accept(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match receiver.check(Instant::now(), &headers, &body) {
        Err(()) => StatusCode::UNAUTHORIZED,
        Ok(None) => StatusCode::NO_CONTENT,
        Ok(Some(received)) => match receiver.events.try_send(received) {
            Ok(()) => StatusCode::NO_CONTENT,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(secret: &str, id: &str, body: &str) -> anyhow::Result<HeaderMap> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64;
        let signature = Webhook::new(secret)?.sign(id, now, body.as_bytes())?;
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse()?);
        headers.insert("webhook-timestamp", now.to_string().parse()?);
        headers.insert("webhook-signature", signature.parse()?);
        Ok(headers)
    }

    #[tokio::test]
    async fn forged_repeated_and_missing_events_are_told_apart() -> anyhow::Result<()> {
        let (receiver, _events) = Receiver::start().await?;
        let (secret, other) = ("whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "whsec_ZmVkY2JhOTg3NjU0MzIxMA==");
        receiver.expect(secret);
        let body = |n: u64| format!(r#"{{"type":"highlight.ready","data":{{"sequence":{n}}}}}"#);
        let now = Instant::now();
        let check = |secret: &str, id: &str, n| {
            anyhow::Ok(receiver.check(now, &signed(secret, id, &body(n))?, body(n).as_bytes()))
        };
        assert!(matches!(check(secret, "a", 1)?, Ok(Some(_))));
        assert!(matches!(check(secret, "a", 1)?, Ok(None)));
        assert!(check(other, "b", 2)?.is_err());
        assert!(matches!(check(secret, "c", 3)?, Ok(Some(_))));
        assert_eq!(receiver.tally(), Tally { events: 2, bad_signatures: 1, repeated: 1, missing: vec![2] });
        Ok(())
    }
}
