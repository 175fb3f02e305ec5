//! Kafka, PostgreSQL and S3 for a demo in several processes: those that the configuration names, else those of
//! `deploy/dev/`, whose scripts are part of this program.

use anyhow::Context;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

use crate::config::Config;
use crate::usage::Usage;

/// The scripts, and what they need beside them.
const SCRIPTS: [(&str, &str); 5] = [
    ("kafka", include_str!("../../deploy/dev/kafka")),
    ("postgres", include_str!("../../deploy/dev/postgres")),
    ("s3", include_str!("../../deploy/dev/s3")),
    ("common.sh", include_str!("../../deploy/dev/common.sh")),
    ("kafka-pom.xml", include_str!("../../deploy/dev/kafka-pom.xml")),
];

/// A service, as it is shown.
pub struct Found {
    /// What it is.
    pub name: &'static str,
    /// Where it is, without secrets.
    pub address: String,
    /// Where that is known from.
    pub origin: &'static str,
}

/// Which services a demo is to run on.
pub enum Wanted {
    /// Some of its own.
    Own,
    /// Those that the configuration names.
    Named(Vec<Found>),
}

impl Wanted {
    /// What the configuration says: it names all, or none.
    pub fn of(config: &Config) -> Result<Self, Usage> {
        let brokers: Vec<&str> = config.bus.brokers.iter().map(|b| b.trim()).filter(|b| !b.is_empty()).collect();
        let keys = [
            ("bus.brokers", !brokers.is_empty()),
            ("database.url", config.database.url.is_some()),
            ("storage.url", config.storage.url.is_some()),
        ];
        if let (Some((named, _)), Some((missing, _))) =
            (keys.iter().find(|(_, named)| *named), keys.iter().find(|(_, named)| !named))
        {
            return Err(Usage(format!(
                "the configuration names {named} and not {missing}; set bus.brokers, database.url and storage.url, or \
                 none of them: then the demo starts its own Kafka, PostgreSQL and S3"
            )));
        }
        let (Some(database), Some(storage)) = (&config.database.url, &config.storage.url) else { return Ok(Self::Own) };
        let endpoint = config.storage.endpoint.as_deref().map(|endpoint| format!(" at {}", public(endpoint)));
        let storage = format!("{storage}{}", endpoint.unwrap_or_default());
        Ok(Self::Named(vec![
            Found { name: "Kafka", address: brokers.join(","), origin: "from bus.brokers" },
            Found { name: "PostgreSQL", address: public(database), origin: "from database.url" },
            Found { name: "S3", address: storage, origin: "from storage.url" },
        ]))
    }
}

/// The services. Dropping them stops those that were started.
pub struct Services {
    found: Vec<Found>,
    settings: Vec<(String, String)>,
    started: Vec<Started>,
    /// Where their data and scripts are.
    folder: Option<PathBuf>,
}

impl Services {
    /// Those that are named, or else some of its own, with their data in `out/services`.
    pub async fn provide(wanted: Wanted, out: &Path) -> anyhow::Result<Self> {
        match wanted {
            Wanted::Named(found) => {
                let settings = vec![setting("BUS__KIND", "kafka")];
                Ok(Self { found, settings, started: Vec::new(), folder: None })
            }
            Wanted::Own => Self::start(out).await,
        }
    }

    async fn start(out: &Path) -> anyhow::Result<Self> {
        let folder = out.join("services");
        let scripts = folder.join("dev");
        std::fs::create_dir_all(&scripts).with_context(|| format!("cannot create {}", scripts.display()))?;
        for (name, text) in SCRIPTS {
            let path = scripts.join(name);
            let written = std::fs::write(&path, text)
                .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)));
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        // From here on each is stopped, however far its start has come.
        let of = |name: &str| Started { script: scripts.join(name), folder: folder.join(name) };
        let (kafka, postgres, s3) = (of("kafka"), of("postgres"), of("s3"));
        let (kafka_says, postgres_says, s3_says) =
            tokio::try_join!(kafka.start("Kafka"), postgres.start("PostgreSQL"), s3.start("S3"))?;
        let (brokers, database) = (kafka_says.told("brokers")?, postgres_says.told("role")?);
        let (storage, endpoint) = (s3_says.told("url")?, s3_says.told("endpoint")?);
        let settings = vec![
            setting("BUS__KIND", "kafka"),
            setting("BUS__BROKERS", brokers),
            setting("DATABASE__URL", database),
            setting("STORAGE__URL", storage),
            setting("STORAGE__ENDPOINT", endpoint),
            setting("STORAGE__REGION", s3_says.told("region")?),
            setting("STORAGE__ACCESS_KEY_ID", s3_says.told("access_key_id")?),
            setting("STORAGE__SECRET_ACCESS_KEY", s3_says.told("secret_access_key")?),
        ];
        let origin = "started for this demo";
        let found = vec![
            Found { name: "Kafka", address: brokers.to_owned(), origin },
            Found { name: "PostgreSQL", address: public(database), origin },
            Found { name: "S3", address: format!("{storage} at {}", public(endpoint)), origin },
        ];
        Ok(Self { found, settings, started: vec![kafka, postgres, s3], folder: Some(folder) })
    }

    /// What there is, for people.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// What a process of crest has to be told, as variables.
    pub fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    /// Stops those that were started.
    pub async fn stop(self) {
        // Their scripts wait for them.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.started.clear();
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn setting(key: &str, value: &str) -> (String, String) {
    (format!("CREST_{key}"), value.to_owned())
}

/// Host, port and what follows, without who logs in there and with which options.
fn public(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

/// A service that was started. Dropping it stops it and removes its data.
struct Started {
    script: PathBuf,
    folder: PathBuf,
}

/// What a service says of itself.
struct Says(String);

impl Says {
    fn told(&self, key: &str) -> anyhow::Result<&str> {
        let found = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.with_context(|| format!("a service that was started does not say its {key}"))
    }
}

impl Started {
    async fn start(&self, name: &str) -> anyhow::Result<Says> {
        let output = Command::new(&self.script)
            .arg("start")
            .arg(&self.folder)
            // Whatever becomes of this program, the service ends with it.
            .env("CREST_DEV_WITH_PID", std::process::id().to_string())
            // `make setup` installs what is missing; a demo does not.
            .env("CREST_DEV_INSTALL", "no")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot start {name}; its script needs bash"))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', "\n  ");
        anyhow::ensure!(output.status.success(), "{name} did not start\n  {}", said(&output.stderr));
        Ok(Says(String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let mut stop = std::process::Command::new(&self.script);
        let _ = stop.arg("stop").arg(&self.folder).stdin(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        assert_eq!(public("postgres://crest:s3cret@db:5432/crest?sslmode=require&password=x"), "db:5432/crest");
        assert_eq!(public("http://127.0.0.1:9000"), "127.0.0.1:9000");
        assert_eq!(public("postgres://a:b@c@db/crest"), "db/crest");
    }
}
