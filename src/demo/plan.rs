//! What the demo runs on: one process on the embedded bus, or several on services.

use std::path::{Path, PathBuf};

use super::DemoOptions;
use super::console::Console;
use super::server::Server;
use super::services::{Services, Wanted};
use crate::config::{self, BusKind};
use crate::usage::Usage;

/// What was asked for, and makes sense.
pub enum Plan {
    /// One process.
    Alone,
    /// A process for each role.
    Apart {
        /// On which services.
        wanted: Wanted,
        /// The configuration file, for the processes.
        config: Option<PathBuf>,
        /// The operator's key, where one is given; else one is drawn, and stays in a database that is named.
        key: Option<String>,
    },
}

impl Plan {
    /// Reads the configuration where there is something to be read in it.
    pub fn of(options: &DemoOptions) -> anyhow::Result<Self> {
        match (options.bus, &options.config) {
            (BusKind::Embedded, None) => Ok(Self::Alone),
            (BusKind::Embedded, Some(_)) => {
                let error = "--config names the services of a demo in several processes; write --bus kafka as well";
                Err(Usage(error.to_owned()).into())
            }
            (BusKind::Kafka, file) => {
                let read = config::load(file.as_deref())?;
                let config = file.as_deref().map(std::path::absolute).transpose()?;
                Ok(Self::Apart { wanted: Wanted::of(&read)?, config, key: read.bootstrap_key })
            }
        }
    }

    /// Starts the services that are wanted.
    pub async fn prepare(self, out: &Path, console: &Console) -> anyhow::Result<Stage> {
        Ok(match self {
            Self::Alone => Stage::Alone,
            Self::Apart { wanted, config, key } => {
                if matches!(wanted, Wanted::Own) {
                    console.status("starting Kafka, PostgreSQL and S3");
                }
                let services = Services::provide(wanted, out).await?;
                console.clear();
                Stage::Apart { services, config, key: key.unwrap_or_else(drawn_key) }
            }
        })
    }
}

/// Where crest can be started.
pub enum Stage {
    /// One process.
    Alone,
    /// A process for each role.
    Apart {
        /// The services, which run.
        services: Services,
        /// The configuration file.
        config: Option<PathBuf>,
        /// The operator's key.
        key: String,
    },
}

impl Stage {
    /// Starts crest; returns it with its operator's key.
    pub async fn start(self, out: &Path, console: &Console) -> anyhow::Result<(Server, String)> {
        match self {
            Self::Alone => {
                console.status("starting crest serve");
                let key = drawn_key();
                Ok((Server::alone(out, &key).await?, key))
            }
            Self::Apart { services, config, key } => {
                Ok((Server::apart(out, &key, config.as_deref(), services, console).await?, key))
            }
        }
    }
}

fn drawn_key() -> String {
    format!("crest_sk_demo{:016x}{:016x}", drawn(), drawn())
}

/// 64 bits from the operating system, by way of the standard library's hasher.
fn drawn() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(std::process::id())
}
