//! The crest that the demo shows: one process that has all roles, or one process for each of them.

use anyhow::bail;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;

use super::console::{Console, Tint};
use super::process::{Process, Start};
use super::services::Services;

/// One process each. The API comes first: the others link to it.
const ROLES: [&str; 5] = ["api", "ingest", "analyze", "fuse", "deliver"];
/// Sections of the configuration that say where the services are.
const SERVICES: [&str; 3] = ["BUS", "DATABASE", "STORAGE"];
/// How often is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(200);

/// A running crest. Dropping it kills its processes and stops the services that were started for it.
pub struct Server {
    processes: Vec<Process>,
    services: Option<Services>,
    /// `http://127.0.0.1:PORT` of the API.
    pub http: String,
    /// `rtmp://127.0.0.1:PORT/live`.
    pub rtmp: String,
}

impl Server {
    /// One process on the embedded bus, with its data in `out/data` and its log in `out/serve.log`.
    pub async fn alone(out: &Path, key: &str) -> anyhow::Result<Self> {
        let (data, log) = (out.join("data"), out.join("serve.log"));
        let how = Start { roles: "all", data, log, key, config: None, keep: &[], settings: &[] };
        Self::of(vec![Process::start(how).await?], None)
    }

    /// A process for each role, on these services; their data are in `out/data`, their logs in `out`.
    pub async fn apart(
        out: &Path,
        key: &str,
        config: Option<&Path>,
        services: Services,
        console: &Console,
    ) -> anyhow::Result<Self> {
        let mut settings = services.settings();
        let mut processes = Vec::new();
        for roles in ROLES {
            console.status(format!("starting crest serve --roles {roles}"));
            let (data, log) = (out.join("data").join(roles), out.join(format!("serve-{roles}.log")));
            let how = Start { roles, data, log, key, config, keep: &SERVICES, settings: &settings };
            let process = Process::start(how).await?;
            if processes.is_empty() {
                settings.push(("CREST_HTTP__PUBLIC_URL".to_owned(), process.http.clone()));
            }
            processes.push(process);
        }
        Self::of(processes, Some(services))
    }

    fn of(processes: Vec<Process>, services: Option<Services>) -> anyhow::Result<Self> {
        let http = processes.first().map(|process| process.http.clone());
        let rtmp = processes.iter().find_map(|process| process.rtmp.clone());
        match (http, rtmp) {
            (Some(http), Some(rtmp)) => Ok(Self { processes, services, http, rtmp }),
            _ => bail!("`crest serve` did not say where it takes feeds"),
        }
    }

    /// Names the services and the processes, where there are several.
    pub fn introduce(&self, console: &Console) {
        let Some(services) = &self.services else { return };
        console.line(console.paint(Tint::Bold, "services"));
        for service in services.found() {
            console.line(format!("  {:<11} {:<42} {}", service.name, service.address, service.origin));
        }
        console.line(console.paint(Tint::Bold, "processes"));
        for process in &self.processes {
            let rtmp = process.rtmp.as_deref().unwrap_or_default();
            console.line(format!("  {:<11} {:<42} {rtmp}", process.roles, process.http).trim_end());
        }
        console.line("");
    }

    /// Comes back only if a process ends on its own, which it should not.
    pub async fn died(&mut self) -> anyhow::Error {
        loop {
            if let Some(error) = self.processes.iter_mut().find_map(Process::ended) {
                return error;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops the processes as an operator would, all at once, then the services that were started for them;
    /// says what went wrong.
    pub async fn stop(self) -> Vec<String> {
        let mut stopping: JoinSet<_> = self.processes.into_iter().map(Process::stop).collect();
        let mut faults = Vec::new();
        while let Some(stopped) = stopping.join_next().await {
            faults.extend(stopped.unwrap_or_else(|error| Err(error.to_string())).err());
        }
        if let Some(services) = self.services {
            services.stop().await;
        }
        faults
    }
}
