//! A place where crest is killed and started again: one data directory, the same addresses throughout.

use anyhow::{Context, Result, bail};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::ledger::logs::Logs;
use crate::scene::Place;
use crate::server::{Api, Ended, KEY, Server};
use crate::services::free_address;

/// A crest that may die and come back.
pub struct Site {
    folder: TempDir,
    http: String,
    rtmp: String,
    settings: Vec<(String, String)>,
    running: Mutex<Option<Server>>,
}

impl Site {
    /// A new data directory and free ports; nothing runs yet.
    pub fn new(settings: &[(&str, &str)]) -> Result<Self> {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(Self {
            folder: tempfile::tempdir()?,
            http: free_address()?,
            rtmp: free_address()?,
            settings,
            running: Mutex::new(None),
        })
    }

    /// Starts crest with these settings on top, this once.
    pub async fn start(&self, once: &[(&str, &str)]) -> Result<()> {
        let mut settings: Vec<(&str, &str)> =
            vec![("CREST_HTTP__LISTEN", &self.http), ("CREST_RTMP__LISTEN", &self.rtmp)];
        settings.extend(self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        settings.extend(once);
        let mut running = self.running.lock().await;
        *running = Some(Server::start_with(self.folder.path(), &settings).await?);
        Ok(())
    }

    /// `kill -9`, and a start.
    pub async fn kill_and_start(&self) -> Result<()> {
        let server = self.running.lock().await.take();
        server.context("crest does not run")?.kill().await?;
        self.start(&[]).await
    }

    /// Waits until crest dies of itself by a signal, and starts it again.
    pub async fn start_again_when_it_dies(&self, once: &[(&str, &str)]) -> Result<()> {
        let status = match self.start(once).await {
            Ok(()) => {
                let mut running = self.running.lock().await;
                let status = running.as_mut().context("crest does not run")?.ended().await?;
                *running = None;
                status
            }
            Err(error) => match error.downcast_ref() {
                Some(Ended(status)) => *status,
                None => return Err(error),
            },
        };
        if status.signal().is_none() {
            bail!("crest ended with {status} instead of dying: {}", self.log());
        }
        self.start(&[]).await
    }

    /// SIGTERM; the data directory stays.
    pub async fn terminate(&self) -> Result<PathBuf> {
        let server = self.running.lock().await.take();
        let status = server.context("crest does not run")?.terminate(Duration::from_secs(30)).await?;
        if status.code() != Some(0) {
            bail!("crest ended with {status}: {}", self.log());
        }
        Ok(self.folder.path().join("data"))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("http://{}", self.http)
    }
}

impl Place for Site {
    fn api(&self) -> Api {
        Api::new(&self.address(), Some(KEY))
    }

    fn base(&self) -> String {
        self.address()
    }

    fn rtmp(&self) -> String {
        format!("rtmp://{}/live", self.rtmp)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("serve.log")).unwrap_or_default()
    }

    async fn fragments(&self) -> Result<f64> {
        self.api().counter("crest_segment_fragments_total").await
    }

    async fn stop(&self) -> Result<Logs> {
        let data = self.terminate().await?;
        Logs::embedded(&data).await
    }
}
