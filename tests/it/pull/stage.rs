//! Streams that are pulled, as their tenant sees them, and what was stored of them.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;

use crate::harness::wait_for;
use crate::server::{Api, Server};
use crate::stored::{self, span};

/// Until something that takes a few seconds of media has happened.
pub const SOON: Duration = Duration::from_secs(40);

/// A server of its own that may pull from this machine.
pub struct Stage {
    pub server: Server,
    pub api: Api,
    _folder: TempDir,
}

impl Stage {
    pub async fn set(settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut all = vec![
            ("CREST_PULL__ALLOW", "127.0.0.0/8"),
            ("CREST_PULL__RECORDED_SPEED", "6"),
            ("CREST_PULL__PAUSE", "200ms"),
            ("CREST_PULL__MAX_PAUSE", "400ms"),
        ];
        all.extend(settings);
        let server = Server::start_with(folder.path(), &all).await?;
        let api = server.tenant().await?;
        Ok(Self { server, api, _folder: folder })
    }

    /// With a configuration file; what it does not say is as it is without one.
    pub async fn configured(toml: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = Server::start_configured(folder.path(), toml).await?;
        let api = server.tenant().await?;
        Ok(Self { server, api, _folder: folder })
    }

    /// Creates a stream that is pulled from there.
    pub async fn pull(&self, url: &str) -> Result<String> {
        let made = self.api.post("/v1/streams", json!({ "name": "pulled", "source": { "kind": "url", "url": url } }));
        Ok(made.await?["id"].as_str().context("a stream without id")?.to_owned())
    }

    pub async fn shown(&self, stream: &str) -> Result<Value> {
        self.api.get(&format!("/v1/streams/{stream}")).await
    }

    /// Waits until the stream looks like this.
    pub async fn until(&self, stream: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let look = || async {
            let shown = self.shown(stream).await?;
            if is(&shown) { Ok(Some(shown)) } else { Err(anyhow::anyhow!("it is {shown}")) }
        };
        wait_for(what, SOON, look).await.with_context(|| self.server.log_tail())
    }

    pub async fn until_state(&self, stream: &str, state: &str) -> Result<Value> {
        self.until(stream, state, |shown| shown["state"] == state).await
    }

    /// Presentation times, in seconds, of a stream's stored `v`ideo or `a`udio packets, in storage order.
    pub async fn times(&self, stream: &str, track: &str) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for segment in stored::segments(&self.server.data, stream) {
            times.extend(stored::times(&segment, track).await?);
        }
        Ok(times)
    }

    /// Waits until so many seconds of video are stored.
    pub async fn stored(&self, stream: &str, seconds: f64) -> Result<()> {
        let enough = || async { Ok((span(&self.times(stream, "v").await?) >= seconds).then_some(())) };
        wait_for("media to be stored", SOON, enough).await.with_context(|| self.server.log_tail())
    }
}
