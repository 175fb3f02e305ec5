//! Where these tests play: crest as several processes, on services that all tests share or on some of the
//! test's own, with proxies in the ways that it disturbs.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::plan::{Plan, Service, services};
use crate::cluster::Cluster;
use crate::harness::wait_for;
use crate::ledger::kafka::Topics;
use crate::ledger::logs::Logs;
use crate::scene::{LIMIT, Place, Scene};
use crate::server::Api;
use crate::services::{Home, Own, Proxy};

/// Crests at a time: each is five processes, and a broker where it has one of its own.
static SLOTS: Semaphore = Semaphore::const_new(4);

/// Processes and what they stand on. Dropping it ends them.
pub struct World {
    cluster: Cluster,
    proxies: BTreeMap<(String, Service), Proxy>,
    topics: Topics,
    kafka: Option<Own>,
    postgres: Option<Own>,
    _home: Home,
    _slot: SemaphorePermit<'static>,
}

impl World {
    /// These processes, on the services that all tests share.
    pub async fn new(processes: &[&str]) -> Result<Arc<Self>> {
        Self::with(Plan { processes, ..Plan::default() }).await
    }

    /// As planned; everything runs.
    pub async fn with(plan: Plan<'_>) -> Result<Arc<Self>> {
        let slot = SLOTS.acquire().await?;
        let (found, proxies) = services(&plan).await?;
        let mut settings = found.home.settings();
        settings.extend(plan.settings().map(|(key, value)| (key.to_owned(), value.to_owned())));
        let mut cluster = Cluster::new(plan.processes, &settings)?;
        for ((process, service), proxy) in &proxies {
            let (key, value) = match service {
                Service::Kafka => ("CREST_BUS__BROKERS", proxy.address()),
                Service::Postgres => ("CREST_DATABASE__URL", found.home.database.through(proxy.port())),
                Service::S3 => ("CREST_STORAGE__ENDPOINT", format!("http://{}", proxy.address())),
            };
            cluster.set(process, key, &value)?;
        }
        let topics = Topics::new(&found.home.brokers, &found.home.prefix);
        cluster.start_all().await?;
        let (kafka, postgres, home) = (found.kafka, found.postgres, found.home);
        Ok(Arc::new(Self { cluster, proxies, topics, kafka, postgres, _home: home, _slot: slot }))
    }

    /// Ends a process: `KILL`, or `TERM`, after which it must end in order.
    pub async fn end(&self, process: &str, signal: &str) -> Result<()> {
        match signal {
            "KILL" => self.cluster.kill(process).await,
            _ => self.cluster.terminate(process).await,
        }
    }

    /// Starts a process, and waits until it is ready.
    pub async fn start(&self, process: &str) -> Result<()> {
        self.cluster.start(process).await
    }

    /// Sends a signal to a process: `STOP`, `CONT`.
    pub async fn signal(&self, process: &str, signal: &str) -> Result<()> {
        self.cluster.signal(process, signal).await
    }

    /// The broker of this test's own.
    pub fn kafka(&self) -> Result<&Own> {
        self.kafka.as_ref().context("the broker is everybody's")
    }

    /// The database server of this test's own.
    pub fn postgres(&self) -> Result<&Own> {
        self.postgres.as_ref().context("the database server is everybody's")
    }

    /// The proxy between a process and a service.
    pub fn proxy(&self, process: &str, service: Service) -> Result<&Proxy> {
        self.proxies
            .get(&(process.to_owned(), service))
            .with_context(|| format!("no proxy from {process} to {service:?}"))
    }

    /// The topics, as somebody else sees them.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// A figure of a process's `/metrics`, summed over its labels.
    pub async fn figure(&self, process: &str, name: &str) -> Result<f64> {
        self.cluster.of(process).await?.counter(name).await
    }

    /// Waits until a figure is as it should be.
    pub async fn reaches(&self, process: &str, name: &str, good: impl Fn(f64) -> bool) -> Result<()> {
        let reached = || async {
            let figure = self.figure(process, name).await?;
            ensure!(good(figure), "it is {figure}");
            Ok(Some(()))
        };
        wait_for(&format!("{name} of {process}"), LIMIT, reached).await.with_context(|| self.log())
    }

    /// Waits until a process says so in its log.
    pub async fn says(&self, process: &str, what: &str) -> Result<()> {
        let said = || async { Ok(self.cluster.log_of(process).contains(what).then_some(())) };
        wait_for(&format!("{process} to say '{what}'"), LIMIT, said).await.with_context(|| self.log())
    }

    /// Waits until any process says so in its log.
    pub async fn hears(&self, what: &str) -> Result<()> {
        let said = || async { Ok(self.cluster.log().contains(what).then_some(())) };
        wait_for(&format!("a process to say '{what}'"), LIMIT, said).await.with_context(|| self.log())
    }

    /// How often a process said something in its log.
    pub fn said(&self, process: &str, what: &str) -> usize {
        self.cluster.log_of(process).matches(what).count()
    }
}

/// A moment more; says which of these processes decided it.
pub async fn decider(scene: &mut Scene<World>, among: &[&str]) -> Result<String> {
    let decisions = async |world: &World, process: &str| world.figure(process, "crest_decisions_total").await;
    let world = Arc::clone(&scene.place);
    let mut before = Vec::new();
    for process in among {
        before.push((*process, decisions(&world, process).await?));
    }
    scene.works().await?;
    let rose = || async {
        for (process, before) in &before {
            if decisions(&world, process).await? > *before {
                return Ok(Some((*process).to_owned()));
            }
        }
        Ok(None)
    };
    wait_for("somebody to decide", LIMIT, rose).await.with_context(|| world.log())
}

impl Place for World {
    fn api(&self) -> Api {
        self.cluster.api()
    }

    fn base(&self) -> String {
        self.cluster.address()
    }

    fn rtmp(&self) -> String {
        self.cluster.rtmp()
    }

    fn log(&self) -> String {
        self.cluster.log()
    }

    async fn fragments(&self) -> Result<f64> {
        self.figure("ingest", "crest_segment_fragments_total").await
    }

    async fn stop(&self) -> Result<Logs> {
        let read = || async {
            let unread = self.topics.unread().await?;
            ensure!(unread == 0, "{unread} records");
            Ok(Some(()))
        };
        wait_for("chat and marks to be analysed", LIMIT, read).await.with_context(|| self.log())?;
        self.cluster.terminate_all().await?;
        self.topics.logs().await
    }
}
