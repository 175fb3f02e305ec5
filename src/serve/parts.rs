//! What every role works with, and how it is built: only what the roles of this process need.

use async_trait::async_trait;
use crest_bus::{KafkaBus, Spill};
use crest_core::bus::{Bus, Received, Record, SharedBus, Start, Subscription};
use crest_core::instance::{Heard, InstanceId};
use crest_core::objects::SharedObjects;
use crest_core::space::Space;
use crest_core::store::SharedStore;
use crest_core::topic::Topic;
use crest_core::view::Links;
use crest_core::{Error, Result};
use crest_store::Database;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::wait::Waiting;
use crate::config::{BusConfig, BusKind, Config, Role, Roles};

/// What every role works with.
#[derive(Clone)]
pub struct Parts {
    /// The bus, for those who follow what others bring in.
    pub bus: SharedBus,
    /// The bus, for those who bring something in: what it cannot take at the moment is kept here.
    pub entry: SharedBus,
    /// The bus once more where it is Kafka, which needs some upkeep.
    pub kafka: Option<Arc<KafkaBus>>,
    /// The store.
    pub store: SharedStore,
    /// Where finished files lie.
    pub objects: SharedObjects,
    /// This process.
    pub instance: InstanceId,
    /// Which processes that take feeds were heard of; `None` where this is the only process.
    pub others: Option<Heard>,
    /// Builds addresses.
    pub links: Links,
    /// Where this process's own HTTP port is reached.
    pub http_url: String,
    /// How much room there is on the disk.
    pub space: Space,
    /// The roles of this process.
    pub roles: Roles,
    /// The configuration.
    pub config: Arc<Config>,
    /// Stops everything.
    pub shutdown: CancellationToken,
}

/// The database, with its schema brought up to date.
pub(super) async fn database(config: &Config, waiting: &Waiting) -> anyhow::Result<Database> {
    let file = config.data_dir.join("crest.db");
    let open = || Database::open(&config.database, &file);
    match config.database.url {
        Some(_) => waiting.reach("the database (database.url)", open).await,
        // A file does not come up by itself.
        None => Ok(open().await?),
    }
}

/// Where finished files lie.
pub(super) async fn objects(config: &Config, waiting: &Waiting) -> anyhow::Result<SharedObjects> {
    let objects = crest_store::objects::open(&config.storage, &config.data_dir)?;
    if config.storage.is_remote() {
        waiting.reach("the object storage (storage.url)", || objects.ping()).await?;
    }
    Ok(objects)
}

/// The bus as those see it who follow, and as those who bring something in.
pub(super) struct Buses {
    pub(super) bus: SharedBus,
    pub(super) entry: SharedBus,
    pub(super) kafka: Option<Arc<KafkaBus>>,
}

/// The bus that the configuration names.
pub(super) async fn buses(
    config: &Config,
    roles: &Roles,
    instance: &InstanceId,
    database: &Database,
    objects: &SharedObjects,
    waiting: &Waiting,
) -> anyhow::Result<Buses> {
    if config.bus.kind == BusKind::Embedded {
        let bus = crest_bus::open(&config.data_dir.join("bus"), config.bus.embedded.clone())?;
        // The database waits for the disk with each commit, the bus does not: after a loss of power it may
        // end before what fusion has committed, and what fusion takes for done must not be given out again.
        if let Some(reached) = database.fusion_reached().await? {
            bus.reserve(Topic::Signals, reached.saturating_add(1))?;
        }
        return Ok(Buses { bus: bus.clone(), entry: bus, kafka: None });
    }
    if !roles.has_any(&[Role::Ingest, Role::Analyze, Role::Fuse, Role::Api]) {
        return Ok(Buses { bus: Arc::new(NoBus), entry: Arc::new(NoBus), kafka: None });
    }
    let BusConfig { brokers, kafka, spill, .. } = &config.bus;
    let open = || KafkaBus::open(brokers, kafka.clone(), instance, objects.clone());
    let kafka = waiting.reach("the bus (bus.brokers)", open).await?;
    let bus: SharedBus = kafka.clone();
    let entry: SharedBus = match roles.has_any(&[Role::Ingest, Role::Api]) {
        true => Spill::open(&config.data_dir.join("spill"), spill.clone(), bus.clone()).await?,
        false => bus.clone(),
    };
    Ok(Buses { bus, entry, kafka: Some(kafka) })
}

/// The bus of a process whose roles have nothing to do with it.
struct NoBus;

impl NoBus {
    fn refuse<T>() -> Result<T> {
        Err(Error::ours("the roles of this process have no bus"))
    }
}

#[async_trait]
impl Bus for NoBus {
    async fn append(&self, _: Topic, _: Vec<Record>) -> Result<()> {
        Self::refuse()
    }

    async fn subscribe(&self, _: Topic, _: &str, _: Start) -> Result<Box<dyn Subscription>> {
        Self::refuse()
    }

    async fn dead_letter(&self, _: Topic, _: &Received, _: &str) -> Result<()> {
        Self::refuse()
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}
