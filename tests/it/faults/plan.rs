//! What a world is to have, and the services of it.

use anyhow::{Context, Result};
use std::collections::BTreeMap;

use crate::scene::SETTINGS;
use crate::services::{Home, Kind, Own, Proxy, free_address, shared_kafka, shared_postgres, shared_s3};

/// A process for each role.
pub const ROLES: [&str; 5] = ["ingest", "analyze", "fuse", "deliver", "api"];
/// ... and a second one that decides.
pub const TWO_FUSE: [&str; 6] = ["ingest", "analyze", "fuse", "fuse-2", "deliver", "api"];

/// For several processes on a machine that does a lot else: few partitions, and others take over soon.
const SEVERAL: [(&str, &str); 3] = [
    ("CREST_BUS__KAFKA__PARTITIONS", "4"),
    ("CREST_BUS__KAFKA__SESSION_TIMEOUT", "6s"),
    ("CREST_WEBHOOKS__TIMEOUT", "3s"),
];

/// What a process speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The brokers.
    Kafka,
    /// The database.
    Postgres,
    /// The object storage.
    S3,
}

/// What a world is to have. What is not said is everybody's.
#[derive(Default)]
pub struct Plan<'a> {
    /// Its processes.
    pub processes: &'a [&'a str],
    /// Settings of all of them, on top.
    pub more: &'a [(&'a str, &'a str)],
    /// A broker of its own, with these settings of its script. A proxy to Kafka takes one, for a broker tells
    /// its clients where they are to connect to.
    pub kafka: Option<&'a [(&'a str, &'a str)]>,
    /// A database server of its own.
    pub postgres: bool,
    /// Which process gets a proxy of its own to which service.
    pub proxies: &'a [(&'a str, Service)],
}

impl Plan<'_> {
    /// The settings that all processes have, beside those that name the services.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        SETTINGS.iter().chain(&SEVERAL).chain(self.more).copied()
    }
}

/// The services of a world.
pub struct Services {
    /// Its place on them.
    pub home: Home,
    /// The broker, where it is its own.
    pub kafka: Option<Own>,
    /// The database server, where it is its own.
    pub postgres: Option<Own>,
}

/// A proxy for each pair of a process and a service.
pub type Proxies = BTreeMap<(String, Service), Proxy>;

/// Starts what is planned.
pub async fn services(plan: &Plan<'_>) -> Result<(Services, Proxies)> {
    let mut proxies = Proxies::new();
    let mut listeners = Vec::new();
    for (process, service) in plan.proxies {
        let proxy = Proxy::new().await?;
        if *service == Service::Kafka {
            let listener = free_address()?;
            proxy.lead_to(&listener);
            listeners.push(format!("{}:{}", listener.rsplit(':').next().context("no port")?, proxy.port()));
        }
        proxies.insert(((*process).to_owned(), *service), proxy);
    }
    let kafka = match plan.kafka {
        Some(settings) => {
            let listeners = listeners.join(" ");
            let extra = [("KAFKA_EXTRA_LISTENER", listeners.as_str())];
            Some(Own::start_new(Kind::Kafka, &[settings, &extra].concat()).await?)
        }
        None => None,
    };
    let postgres = if plan.postgres { Some(Own::start_new(Kind::Postgres, &[]).await?) } else { None };
    let (brokers, admin) = (kafka.as_ref().map(|k| k.told("brokers")), postgres.as_ref().map(|p| p.told("url")));
    let home = tokio::task::spawn_blocking(move || place(brokers, admin)).await??;
    let address = |url: &str| -> Result<String> {
        let rest = url.rsplit(['@', ' ']).next().and_then(|rest| rest.trim_start_matches("http://").split('/').next());
        Ok(rest.context("no address")?.to_owned())
    };
    for ((_, service), proxy) in &proxies {
        match service {
            Service::Kafka => {}
            Service::Postgres => proxy.lead_to(&address(&home.database.url)?),
            Service::S3 => proxy.lead_to(&address(&home.s3.endpoint)?),
        }
    }
    Ok((Services { home, kafka, postgres }, proxies))
}

/// A place on these services, or on those that all tests share.
fn place(brokers: Option<String>, admin: Option<String>) -> Result<Home> {
    let brokers = brokers.map_or_else(|| shared_kafka().map(str::to_owned), Ok)?;
    let admin = admin.map_or_else(|| shared_postgres().map(str::to_owned), Ok)?;
    Home::on(&brokers, &admin, shared_s3()?)
}
