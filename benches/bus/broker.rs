//! A broker of the run's own, and the tools that come with it.

use anyhow::{Context, bail};
use async_trait::async_trait;
use bytes::Bytes;
use bytesize::ByteSize;
use futures::stream::BoxStream;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crest_bus::{KafkaBus, KafkaConfig};
use crest_core::bus::SharedBus;
use crest_core::instance::InstanceId;
use crest_core::objects::{Method, Objects};

use crate::Result;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/dev/kafka");

/// With the compiler that it has in production, and memory for a large backlog of indexes.
const JAVA: &str = "-Xmx1g -XX:TieredStopAtLevel=4";

/// It stops when this is dropped, and its files go.
pub struct Broker {
    folder: PathBuf,
    pub brokers: String,
    homes: AtomicU32,
}

impl Broker {
    pub fn start(out: &Path) -> Result<Self> {
        let folder = out.join("kafka");
        std::fs::create_dir_all(&folder)?;
        let started = Command::new(SCRIPT)
            .arg("start")
            .arg(&folder)
            .env("KAFKA_JAVA_OPTIONS", JAVA)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {SCRIPT}"))?;
        let said = String::from_utf8_lossy(&started.stdout).into_owned();
        let brokers = said.lines().find_map(|line| line.strip_prefix("brokers="));
        let brokers = brokers.with_context(|| format!("{SCRIPT} start said: {said}"))?.to_owned();
        Ok(Self { folder, brokers, homes: AtomicU32::new(0) })
    }

    /// A name in front of topics and groups that nobody had before.
    pub fn prefix(&self) -> String {
        format!("bench-{}-{}.", std::process::id(), self.homes.fetch_add(1, Ordering::Relaxed))
    }

    /// A tool of Kafka; returns what it prints.
    pub async fn tool(&self, class: &str, arguments: Vec<String>) -> Result<String> {
        let class = format!("org.apache.kafka.tools.{class}");
        let mut command = tokio::process::Command::new(SCRIPT);
        let ran = command.arg("run").arg(&class).args(&arguments).output().await?;
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        if !ran.status.success() {
            bail!("{class} {arguments:?}: {}{said}", String::from_utf8_lossy(&ran.stderr));
        }
        Ok(said)
    }
}

impl Broker {
    /// Deletes the topics of this prefix: a round's gigabytes are not needed in the next.
    pub async fn forget(&self, prefix: &str) -> Result<()> {
        let topics = format!("{}.*", prefix.replace('.', "\\."));
        let arguments = ["--bootstrap-server", &self.brokers, "--delete", "--topic", &topics];
        self.tool("TopicCommand", arguments.map(str::to_owned).to_vec()).await?;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).arg("stop").arg(&self.folder).stdout(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The bus of a process, with topics of its own.
pub async fn bus(brokers: &str, prefix: &str) -> Result<SharedBus> {
    let config = KafkaConfig { prefix: prefix.to_owned(), ..KafkaConfig::default() };
    let instance = InstanceId::from_raw("bench");
    let bus: Arc<KafkaBus> = KafkaBus::open(&[brokers.to_owned()], config, &instance, Arc::new(NoObjects)).await?;
    Ok(bus)
}

/// Nothing here is so large that it would lie outside the broker.
struct NoObjects;

fn none<T>() -> crest_core::Result<T> {
    Err(crest_core::Error::ours("the benchmark keeps no objects"))
}

#[async_trait]
impl Objects for NoObjects {
    fn folder(&self) -> Option<&Path> {
        None
    }
    async fn put_file(&self, _: &str, _: &Path) -> crest_core::Result<()> {
        none()
    }
    async fn put(&self, _: &str, _: Bytes) -> crest_core::Result<()> {
        none()
    }
    async fn size(&self, _: &str) -> crest_core::Result<Option<u64>> {
        none()
    }
    async fn read(&self, _: &str, _: Range<u64>) -> crest_core::Result<BoxStream<'static, crest_core::Result<Bytes>>> {
        none()
    }
    async fn delete(&self, _: &str) -> crest_core::Result<()> {
        none()
    }
    async fn list(&self, _: &str) -> crest_core::Result<BoxStream<'static, crest_core::Result<(String, u64)>>> {
        Ok(Box::pin(futures::stream::empty()))
    }
    async fn signed_url(&self, _: &str, _: Method, _: Duration) -> crest_core::Result<Option<String>> {
        Ok(None)
    }
    async fn ping(&self) -> crest_core::Result<()> {
        Ok(())
    }
}

/// Megabytes, as the tools count them.
pub fn megabytes(records: u64, bytes: usize) -> f64 {
    (records * bytes as u64) as f64 / ByteSize::mib(1).as_u64() as f64
}
