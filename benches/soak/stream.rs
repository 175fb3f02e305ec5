//! One stream from its creation to its end, with an audience, marks and a receiver.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::process::Child;

use crate::crest::{Api, Crest};
use crate::media;
use crate::receiver::Receiver;

/// How long anything may take on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(120);

/// A stream that is being published.
pub struct Live {
    api: Api,
    receiver: Receiver,
    id: String,
    publisher: Child,
    begun: Instant,
    said: u64,
}

impl Live {
    /// Creates a stream in an organization of its own, publishes `file` to it and waits until it is live.
    pub async fn start(crest: &Crest, number: usize, file: &Path, endless: bool) -> Result<Self> {
        let api = crest.tenant(&format!("organization {number}")).await?;
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "soak", "source": { "kind": "rtmp" } })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
        let (id, key) = (text(&made["id"])?, text(&made["ingest"]["stream_key"])?);
        let publisher = media::publish(file, endless, &format!("{}/{key}", crest.rtmp))?;
        receiver.wait_for("stream.started", LIMIT).await?;
        Ok(Self { api, receiver, id, publisher, begun: Instant::now(), said: 0 })
    }

    /// A few messages of its audience about what is on now.
    pub async fn chat(&mut self, messages: u64) -> Result<()> {
        let t = self.begun.elapsed().as_secs_f64();
        let one = |n: u64| json!({ "t": t, "user": format!("viewer {}", n % 97), "text": "what a moment" });
        let batch: Vec<Value> = (self.said..self.said + messages).map(one).collect();
        self.said += messages;
        self.api.post(&format!("/v1/streams/{}/chat", self.id), json!({ "messages": batch })).await.map(drop)
    }

    /// A mark, which makes a highlight and with it a clip.
    pub async fn mark(&self) -> Result<()> {
        let t = self.begun.elapsed().as_secs_f64();
        self.api.post(&format!("/v1/streams/{}/markers", self.id), json!({ "t": t })).await.map(drop)
    }

    /// Whether its publisher is still there.
    pub fn is_published(&mut self) -> Result<bool> {
        Ok(self.publisher.try_wait()?.is_none())
    }

    /// Waits for the publisher to end by itself, or cuts it off; stops the stream, and waits until its
    /// end and its highlight were told.
    pub async fn end(mut self, cut_off: bool) -> Result<()> {
        if cut_off {
            self.publisher.kill().await?;
        } else {
            tokio::time::timeout(LIMIT, self.publisher.wait()).await.context("ffmpeg did not end")??;
        }
        self.api.post(&format!("/v1/streams/{}/stop", self.id), json!({})).await?;
        self.receiver.wait_for("stream.ended", LIMIT).await?;
        self.receiver.wait_for("highlight.ready", LIMIT).await
    }
}
