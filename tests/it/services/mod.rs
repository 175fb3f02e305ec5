//! Kafka, PostgreSQL and S3 as the tests of the whole system use them. Each test has its own topics, database
//! and folder of the bucket on services that all share; a test that disturbs a service has one of its own.

mod own;
mod proxy;
#[path = "../../services/mod.rs"]
mod started;

pub use own::Own;
pub use proxy::Proxy;
pub use started::{
    BUCKET, Database, Kind, S3, Service, kafka as shared_kafka, own_name, postgres as shared_postgres, s3 as shared_s3,
};

use anyhow::{Context, Result};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;

/// A place on the three services that one test has to itself, and how crest is told of it.
#[derive(Debug)]
pub struct Home {
    /// Addresses of brokers.
    pub brokers: String,
    /// Stands in front of the names of topics and groups.
    pub prefix: String,
    /// The database.
    pub database: Database,
    /// The address that crest is given for it: the database's, unless a proxy stands in between.
    pub database_url: String,
    /// Where objects are stored.
    pub s3: S3,
    /// The folder of the bucket.
    pub folder: String,
}

impl Home {
    /// On the services that all tests share.
    pub fn new() -> Result<Self> {
        Self::on(started::kafka()?, started::postgres()?, started::s3()?)
    }

    /// On these services: brokers, the administrator's address of PostgreSQL, S3.
    pub fn on(brokers: &str, admin: &str, s3: S3) -> Result<Self> {
        let (name, database) = (own_name(), Database::on(admin)?);
        let database_url = database.url.clone();
        let prefix = format!("{name}.");
        Ok(Self { brokers: brokers.to_owned(), prefix, database, database_url, s3, folder: name })
    }

    /// The settings of every process of this crest.
    pub fn settings(&self) -> Vec<(String, String)> {
        let settings = [
            ("CREST_BUS__KIND", "kafka"),
            ("CREST_BUS__BROKERS", &self.brokers),
            ("CREST_BUS__KAFKA__PREFIX", &self.prefix),
            ("CREST_DATABASE__URL", &self.database_url),
            ("CREST_STORAGE__URL", &format!("s3://{BUCKET}/{}", self.folder)),
            ("CREST_STORAGE__ENDPOINT", &self.s3.endpoint),
            ("CREST_STORAGE__REGION", "us-east-1"),
            ("CREST_STORAGE__ACCESS_KEY_ID", &self.s3.key),
            ("CREST_STORAGE__SECRET_ACCESS_KEY", &self.s3.secret),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }
}

/// A port of loopback that nobody has and that the kernel gives to no outgoing connection: who frees it finds
/// it free when it comes back.
fn free_listener() -> Result<TcpListener> {
    let drawn = RandomState::new().hash_one(std::process::id()) % 20_000;
    let port = |step: u64| 10_000 + u16::try_from((drawn + step * 7) % 20_000).unwrap_or_default();
    let listener = (0..1000).find_map(|step| TcpListener::bind(("127.0.0.1", port(step))).ok());
    listener.context("no port is free")
}

/// A port for a server that is to come back there.
pub fn free_port() -> Result<u16> {
    Ok(free_listener()?.local_addr()?.port())
}

/// `127.0.0.1:PORT` for a server that is to come back there.
pub fn free_address() -> Result<String> {
    Ok(free_listener()?.local_addr()?.to_string())
}
