//! A service that a test has to itself and may disturb.

use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Arc;

use super::{Kind, S3, Service};

/// The service, driven from asynchronous tests: its script and its death may take seconds.
#[derive(Debug, Clone)]
pub struct Own(Arc<Service>);

impl Own {
    /// Starts one with settings of its script.
    pub async fn start_new(kind: Kind, settings: &[(&str, &str)]) -> Result<Self> {
        let settings: Vec<(String, String)> = settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let started = tokio::task::spawn_blocking(move || {
            let settings: Vec<(&str, &str)> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            Service::with(kind, &settings)
        });
        let service = started.await?.with_context(|| format!("starting {kind:?}"))?;
        Ok(Self(Arc::new(service)))
    }

    /// What it said of itself, as [`Service::told`] knows it.
    pub fn told(&self, key: &str) -> String {
        self.0.told(key)
    }

    /// Of S3: how to reach it.
    pub fn s3(&self) -> S3 {
        let of = |key: &str| self.told(key);
        S3 { endpoint: of("endpoint"), key: of("access_key_id"), secret: of("secret_access_key") }
    }

    /// Stops it in order; its data stay.
    pub async fn stop(&self) -> Result<()> {
        self.with(Service::stop).await
    }

    /// Starts it again, at the same address.
    pub async fn start(&self) -> Result<()> {
        self.with(Service::start).await
    }

    /// `kill -9`, and it is dead.
    pub async fn kill(&self) -> Result<()> {
        self.with(Service::kill).await
    }

    /// Of PostgreSQL: ends at once, with every connection and without finishing anything.
    pub async fn abort(&self) -> Result<()> {
        self.with(|service| service.end("QUIT")).await
    }

    /// Sends a signal to all its processes: `STOP`, `CONT`.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.with(move |service| service.signal(&name)).await
    }

    /// Where its data, its log and its configuration are.
    pub fn folder(&self) -> &Path {
        self.0.folder()
    }

    async fn with(&self, what: impl FnOnce(&Service) -> std::io::Result<()> + Send + 'static) -> Result<()> {
        let service = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || what(&service)).await?.context("a service of this test")
    }
}
