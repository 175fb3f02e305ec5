//! How far groups have come with what this process appended.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crest_core::bus::Partition;
use crest_core::topic::Topic;
use crest_core::{Error, Result};

use super::cluster::Cluster;
use super::watch::request;

/// How often it is asked.
const CADENCE: Duration = Duration::from_millis(100);

/// Asks for the positions of groups without being one of their members. A client needs a second or two
/// until it knows who coordinates its group, so that each is kept, and made before it is needed.
pub(crate) struct Observers {
    cluster: Arc<Cluster>,
    of_groups: Mutex<HashMap<String, Arc<BaseConsumer>>>,
}

/// One question.
#[derive(Clone)]
struct Question {
    client: Arc<BaseConsumer>,
    topic: String,
    group: String,
    at: (Partition, u64),
    timeout: Duration,
}

impl Observers {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, of_groups: Mutex::default() }
    }

    /// Makes ready for questions about a topic: the first time, in the background.
    pub(crate) fn prepare(&self, topic: Topic) {
        for group in topic.groups() {
            let name = self.cluster.group(topic, group);
            if self.of_groups.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&name) {
                continue;
            }
            // What goes wrong is told to whoever asks in earnest.
            if let Ok(question) = self.question(topic, group, (0, 0)) {
                tokio::task::spawn_blocking(move || question.over());
            }
        }
    }

    /// Waits until the group has acknowledged the record at this place, or nobody is in the group.
    pub(crate) async fn passed(&self, topic: Topic, group: &str, at: (Partition, u64)) -> Result<()> {
        let question = self.question(topic, group, at)?;
        loop {
            let asked = question.clone();
            // The clients of the library wait.
            let over = tokio::task::spawn_blocking(move || asked.over()).await;
            let over = over.map_err(|error| Error::ours(format!("cannot ask how far a group is: {error}")))?;
            if over.map_err(|error| self.failed(&question.group, &error))? {
                return Ok(());
            }
            tokio::time::sleep(CADENCE).await;
        }
    }

    fn question(&self, topic: Topic, group: &str, at: (Partition, u64)) -> Result<Question> {
        let cluster = &self.cluster;
        let group = cluster.group(topic, group);
        let mut of_groups = self.of_groups.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match of_groups.get(&group) {
            Some(client) => client.clone(),
            None => {
                let mut settings = cluster.settings();
                settings.set("group.id", &group).set("enable.auto.commit", "false");
                let client: BaseConsumer =
                    settings.set_log_level(RDKafkaLogLevel::Emerg).create().map_err(|e| self.failed(&group, &e))?;
                let client = Arc::new(client);
                of_groups.insert(group.clone(), client.clone());
                client
            }
        };
        let timeout = cluster.config.request_timeout.0;
        Ok(Question { client, topic: cluster.topic(topic).to_owned(), group, at, timeout })
    }

    fn failed(&self, group: &str, error: &KafkaError) -> Error {
        request(&self.cluster, &format!("asking how far the group {group} is"), error)
    }
}

impl Question {
    /// Whether nothing is to be waited for any more.
    fn over(&self) -> Result<bool, KafkaError> {
        // What the client says of its connection is said by others too, and is not to pile up.
        while self.client.poll(Duration::ZERO).is_some() {}
        let (partition, offset) = self.at;
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, partition);
        let committed = self.client.committed_offsets(asked, self.timeout)?;
        let committed = match committed.find_partition(&self.topic, partition) {
            Some(found) => found.error().map(|()| found.offset())?,
            None => Offset::Invalid,
        };
        if let Offset::Offset(next) = committed
            && u64::try_from(next).is_ok_and(|next| next > offset)
        {
            return Ok(true);
        }
        let groups = self.client.fetch_group_list(Some(&self.group), self.timeout)?;
        let of = |name: &str| groups.groups().iter().find(|group| group.name() == name).map(|g| g.members().is_empty());
        Ok(of(&self.group).unwrap_or(true))
    }
}
