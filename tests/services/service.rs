//! A service of `deploy/dev/` that a test has to itself: it may die, stand still and come back.

use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::own_name;

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Apache Kafka.
    Kafka,
    /// PostgreSQL.
    Postgres,
    /// Object storage.
    S3,
}

impl Kind {
    fn script(self) -> Result<PathBuf> {
        let name = match self {
            Self::Kafka => "deploy/dev/kafka",
            Self::Postgres => "deploy/dev/postgres",
            Self::S3 => "deploy/dev/s3",
        };
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let found = folders.map(|folder| folder.join(name)).find(|script| script.is_file());
        found.ok_or_else(|| Error::other(format!("{name} is not in this repository")))
    }
}

/// A service with its data in a folder of its own. Dropping it, or the end of this process, stops it and
/// removes the folder.
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    folder: PathBuf,
    said: String,
}

impl Service {
    /// Starts one.
    pub fn new(kind: Kind) -> Result<Self> {
        Self::with(kind, &[])
    }

    /// Starts one with settings of its script: `KAFKA_SASL` and the like.
    pub fn with(kind: Kind, settings: &[(&str, &str)]) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("crest-{}", own_name()));
        let mut service = Self { kind, folder, said: String::new() };
        service.said = service.script("start", settings)?;
        Ok(service)
    }

    /// What it said of itself: `brokers` of Kafka, `url` and `role` of PostgreSQL, `endpoint`,
    /// `access_key_id` and `secret_access_key` of S3; empty where it said nothing of the kind.
    pub fn told(&self, key: &str) -> String {
        let of = |line: &str| line.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')).map(str::to_owned);
        self.said.lines().find_map(of).unwrap_or_default()
    }

    /// The port that it listens on.
    pub fn port(&self) -> Result<u16> {
        let text = fs::read_to_string(self.folder.join("port"))?;
        text.trim().parse().map_err(Error::other)
    }

    /// Stops it in order; its data stay.
    pub fn stop(&self) -> Result<()> {
        self.script("stop", &[]).map(drop)
    }

    /// Starts it again with what it stored, at the same address.
    pub fn start(&self) -> Result<()> {
        self.script("start", &[]).map(drop)
    }

    /// `kill -9`, and it is dead.
    pub fn kill(&self) -> Result<()> {
        self.end("KILL")
    }

    /// Sends a signal that ends it, and waits for its end.
    pub fn end(&self, name: &str) -> Result<()> {
        let pid = self.pid()?;
        self.signal(name)?;
        let limit = Instant::now() + Duration::from_secs(60);
        while lives(pid) {
            if Instant::now() > limit {
                return Err(Error::other(format!("{:?} does not end after SIG{name}", self.kind)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends a signal to all its processes, such as `STOP` and `CONT`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let first = self.pid()?;
        for pid in [vec![first], children(first)].concat() {
            let told = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).output()?;
            // A child may have ended by itself.
            if pid == first && !told.status.success() {
                return Err(Error::other(String::from_utf8_lossy(&told.stderr).into_owned()));
            }
        }
        Ok(())
    }

    /// Its process; of several the one that started the others.
    pub fn pid(&self) -> Result<u32> {
        let text = fs::read_to_string(self.folder.join("pid"))?;
        let pid = text.split_whitespace().next().unwrap_or_default();
        pid.parse().map_err(|_| Error::other(format!("{:?} does not run", self.kind)))
    }

    /// Where its data, its log and its configuration are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn script(&self, what: &str, settings: &[(&str, &str)]) -> Result<String> {
        let script = self.kind.script()?;
        let mut command = Command::new(&script);
        command.arg(what).arg(&self.folder).envs(settings.iter().copied());
        command.env("CREST_DEV_WITH_PID", std::process::id().to_string());
        // Tests are about the death of processes, not about a loss of power.
        command.env("POSTGRES_FSYNC", "off");
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::other(format!("{} {what}: {said}", script.display())))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// State and parent of a process.
fn state(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// Whether it has not ended; one that nobody has asked for yet has.
fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// The processes that `pid` started.
fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|child| state(*child).is_some_and(|(_, parent)| parent == pid)).collect()
}
