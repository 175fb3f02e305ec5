//! The bus on Kafka, on a real broker: the conformance suite, and what is its own.

mod away;
mod broker;
mod figures;
mod folder;
mod large;
mod lines;
mod membership;
mod poison;
mod raw;
mod refused;
mod slow;
mod topics;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;

use crest_bus::{KafkaBus, KafkaConfig};
use crest_core::bus::Position;
use crest_core::instance::InstanceId;
use crest_core::topic::Topic;
use crest_core::units::Span;

use crate::conformance;
use crate::conformance::Home;
use folder::Folder;

/// Something that no other test has.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{:x}-{:x}-{:x}", now, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Topics and groups of its own in a cluster, and a folder for what is large.
pub struct Cluster {
    pub brokers: String,
    pub config: KafkaConfig,
    pub objects: Arc<Folder>,
    folder: Option<TempDir>,
    /// Whether there are topics that go with it.
    opened: AtomicBool,
}

impl Cluster {
    /// In the cluster at this address.
    pub fn on(brokers: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self::with(brokers, &format!("t{}.", unique()), folder.path());
        cluster.folder = Some(folder);
        cluster
    }

    fn with(brokers: &str, prefix: &str, folder: &Path) -> Self {
        let config = KafkaConfig {
            prefix: prefix.to_owned(),
            partitions: 4,
            session_timeout: Span::secs(6),
            ..KafkaConfig::default()
        };
        let (brokers, objects) = (brokers.to_owned(), Arc::new(Folder::new(folder)));
        Self { brokers, config, objects, folder: None, opened: AtomicBool::new(false) }
    }

    /// As the process of this name.
    pub async fn open_as(&self, instance: &str) -> crest_core::Result<Arc<KafkaBus>> {
        let brokers = [self.brokers.clone()];
        let instance = InstanceId::from_raw(instance);
        let opened = KafkaBus::open(&brokers, self.config.clone(), &instance, self.objects.clone()).await;
        self.opened.fetch_or(opened.is_ok(), Ordering::Relaxed);
        opened
    }
}

impl Drop for Cluster {
    /// The broker that all share is not to fill up.
    fn drop(&mut self) {
        if self.folder.is_some() && self.opened.load(Ordering::Relaxed) {
            raw::delete_all(&self.brokers, &self.config.prefix);
        }
    }
}

impl Home for Cluster {
    type Bus = KafkaBus;
    const CHILD: &str = "kafka::child";
    const SHARES: bool = true;

    async fn empty() -> Self {
        Self::on(broker::shared())
    }
    fn address(&self) -> String {
        format!("{} {} {}", self.brokers, self.config.prefix, self.objects.path.display())
    }
    fn at(address: &str) -> Self {
        let parts: Vec<&str> = address.split(' ').collect();
        let [brokers, prefix, folder] = parts[..] else { panic!("{address}") };
        Self::with(brokers, prefix, Path::new(folder))
    }
    async fn open(&self) -> Arc<KafkaBus> {
        self.open_as("one").await.unwrap()
    }
    async fn open_beside(&self) -> Arc<KafkaBus> {
        self.open_as(&format!("beside-{}", unique())).await.unwrap()
    }
    async fn dead_letters(&self, bus: &KafkaBus, topic: Topic) -> Vec<(Position, String)> {
        bus.dead_letters(topic, 100).await.unwrap().into_iter().map(|l| (l.position, l.reason)).collect()
    }
}

conformance! { Cluster }
