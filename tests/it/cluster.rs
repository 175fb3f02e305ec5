//! Crest as several real processes on shared services, each of which may die and come back.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::harness::signal;
use crate::server::{Api, KEY, Server};
use crate::services::free_address;

/// How long SIGTERM may take: the 10 s that are promised, on a machine that does a lot else.
const STOP: Duration = Duration::from_secs(30);

/// Several processes. They are named after their roles: `ingest`, `fuse,deliver`, and `fuse-2` for a second
/// one with the same. Dropping it kills them.
pub struct Cluster {
    folder: TempDir,
    /// `host:port` of the API, the same throughout.
    http: String,
    /// `host:port` for publishers, the same throughout.
    rtmp: String,
    settings: Vec<(String, String)>,
    processes: BTreeMap<String, Process>,
}

/// One of them.
struct Process {
    /// Settings of this one alone.
    settings: Vec<(String, String)>,
    running: Mutex<Option<Server>>,
}

impl Cluster {
    /// These processes with these settings; nothing runs yet.
    pub fn new(names: &[&str], settings: &[(String, String)]) -> Result<Self> {
        let process = |name: &&str| {
            let process = Process { settings: Vec::new(), running: Mutex::new(None) };
            ((*name).to_owned(), process)
        };
        Ok(Self {
            folder: tempfile::tempdir()?,
            http: free_address()?,
            rtmp: free_address()?,
            settings: settings.to_vec(),
            processes: names.iter().map(process).collect(),
        })
    }

    /// A setting of one process alone: the address of a proxy that is in its way only.
    pub fn set(&mut self, name: &str, key: &str, value: &str) -> Result<()> {
        let process = self.processes.get_mut(name).with_context(|| format!("no process {name}"))?;
        process.settings.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Starts those that do not run, all at once.
    pub async fn start_all(&self) -> Result<()> {
        let mut starting = JoinSet::new();
        for (name, process) in &self.processes {
            if process.running.lock().await.is_none() {
                let started = self.started(name, &[])?;
                let name = name.clone();
                starting.spawn(async move { started.await.map(|server| (name, server)) });
            }
        }
        while let Some(started) = starting.join_next().await {
            let (name, server) = started??;
            *self.process(&name)?.running.lock().await = Some(server);
        }
        Ok(())
    }

    /// Starts one, if it does not run, and waits until it is ready.
    pub async fn start(&self, name: &str) -> Result<()> {
        self.start_with(name, &[]).await
    }

    /// Starts one with these settings on top, this once.
    pub async fn start_with(&self, name: &str, once: &[(&str, &str)]) -> Result<()> {
        let mut running = self.process(name)?.running.lock().await;
        if running.is_none() {
            *running = Some(self.started(name, once)?.await?);
        }
        Ok(())
    }

    /// A process that is being started.
    fn started(&self, name: &str, once: &[(&str, &str)]) -> Result<impl Future<Output = Result<Server>> + use<>> {
        let (process, home, address) = (self.process(name)?, self.home(name), self.address());
        let (name, roles) = (name.to_owned(), roles(name).to_owned());
        let has = |role: &str| roles.split(',').any(|one| one == role);
        let mut settings = vec![("CREST_HTTP__PUBLIC_URL".to_owned(), address)];
        if has("api") {
            settings.push(("CREST_HTTP__LISTEN".to_owned(), self.http.clone()));
        }
        if has("ingest") {
            settings.push(("CREST_RTMP__LISTEN".to_owned(), self.rtmp.clone()));
        }
        settings.extend(self.settings.iter().chain(&process.settings).cloned());
        settings.extend(once.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Ok(async move {
            let settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let server = Server::start_roles(&home, &roles, &settings).await;
            server.with_context(|| format!("starting {name}"))
        })
    }

    /// `kill -9`.
    pub async fn kill(&self, name: &str) -> Result<()> {
        self.take(name).await?.kill().await
    }

    /// SIGTERM, and it must end in order.
    pub async fn terminate(&self, name: &str) -> Result<()> {
        let status = self.take(name).await?.terminate(STOP).await?;
        ensure!(status.code() == Some(0), "{name} ended with {status}: {}", self.log());
        Ok(())
    }

    /// SIGTERM to all that run, at once.
    pub async fn terminate_all(&self) -> Result<()> {
        let mut ending = JoinSet::new();
        for (name, process) in &self.processes {
            if let Some(server) = process.running.lock().await.take() {
                let name = name.clone();
                ending.spawn(async move { (name, server.terminate(STOP).await) });
            }
        }
        while let Some(ended) = ending.join_next().await {
            let (name, status) = ended?;
            let status = status?;
            ensure!(status.code() == Some(0), "{name} ended with {status}: {}", self.log_of(&name));
        }
        Ok(())
    }

    /// Sends a signal to one: `STOP`, `CONT`.
    pub async fn signal(&self, name: &str, kind: &str) -> Result<()> {
        let running = self.process(name)?.running.lock().await;
        signal(kind, running.as_ref().with_context(|| format!("{name} does not run"))?.pid()).await
    }

    /// What one shows of itself: its `/metrics`, `/readyz`.
    pub async fn of(&self, name: &str) -> Result<Api> {
        let running = self.process(name)?.running.lock().await;
        Ok(running.as_ref().with_context(|| format!("{name} does not run"))?.as_operator())
    }

    /// The API with the operator's key; it works whenever the process with the role `api` runs.
    pub fn api(&self) -> Api {
        Api::new(&self.address(), Some(KEY))
    }

    /// `http://127.0.0.1:PORT` of the API.
    pub fn address(&self) -> String {
        format!("http://{}", self.http)
    }

    /// `rtmp://127.0.0.1:PORT/live`.
    pub fn rtmp(&self) -> String {
        format!("rtmp://{}/live", self.rtmp)
    }

    /// The names of the processes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.processes.keys().map(String::as_str)
    }

    /// Everything that one wrote to its log.
    pub fn log_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.home(name).join("serve.log")).unwrap_or_default()
    }

    /// Everything that all wrote to their logs.
    pub fn log(&self) -> String {
        self.names().map(|name| format!("=== {name}\n{}\n", self.log_of(name))).collect()
    }

    fn process(&self, name: &str) -> Result<&Process> {
        self.processes.get(name).with_context(|| format!("no process {name}"))
    }

    async fn take(&self, name: &str) -> Result<Server> {
        let server = self.process(name)?.running.lock().await.take();
        server.with_context(|| format!("{name} does not run"))
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name.replace(',', "-and-"))
    }
}

/// The roles that a name stands for.
fn roles(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}
