//! The topics in the cluster: made where they are missing, compared with what crest wants where they are
//! not. What somebody else set is never changed.

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, info};

use crest_core::topic::Topic;
use crest_core::{Error, Result};

use super::cluster::Cluster;
use super::watch::{forbidden, request};

/// What a topic should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    partitions: u32,
    replication: u16,
    settings: BTreeMap<&'static str, String>,
}

/// Where a topic is not what crest would have made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The topic's name in the cluster.
    pub topic: String,
    /// The setting.
    pub setting: String,
    /// What it is.
    pub found: String,
    /// What crest would set.
    pub wanted: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, setting, found, wanted } = self;
        write!(f, "the topic {topic} has {setting} = {found}, crest would set {wanted}")
    }
}

/// What is there of the topics.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) missing: Vec<Wanted>,
    pub(crate) mismatches: Vec<Mismatch>,
}

fn in_millis(span: Duration) -> String {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX).to_string()
}

/// Every topic as crest wants it.
pub(crate) fn wanted(cluster: &Cluster) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Topic::ALL.iter().map(|topic| of(cluster, *topic)).collect();
    let config = &cluster.config;
    all.push(Wanted {
        name: cluster.dead_letters.clone(),
        // They are few, and so the newest are the last.
        partitions: 1,
        replication: config.replication,
        settings: [
            // What is set aside twice is there once, some time later.
            ("cleanup.policy", "compact,delete".to_owned()),
            ("retention.ms", in_millis(config.retention.0)),
            ("max.message.bytes", cluster.largest(None).to_string()),
            ("min.insync.replicas", in_sync(config.replication)),
        ]
        .into(),
    });
    all
}

/// A topic as crest wants it.
pub(crate) fn of(cluster: &Cluster, topic: Topic) -> Wanted {
    let config = &cluster.config;
    let mut settings: BTreeMap<&'static str, String> = [
        ("cleanup.policy", if topic == Topic::Control { "compact" } else { "delete" }.to_owned()),
        ("max.message.bytes", cluster.largest(Some(topic)).to_string()),
        ("min.insync.replicas", in_sync(config.replication)),
    ]
    .into();
    if topic == Topic::Control {
        // What a tenant configured stays until it is configured anew.
    } else if topic.durable() {
        settings.insert("retention.ms", in_millis(config.retention.0));
    } else {
        settings.insert("retention.ms", in_millis(config.media_retention.0));
        settings.insert("retention.bytes", config.media_bytes.as_u64().to_string());
        // Kafka removes whole segments: with its usual ones of a gigabyte the bounds would mean nothing.
        let segment = (config.media_bytes.as_u64() / 4).clamp(32 << 20, 1 << 30);
        settings.insert("segment.bytes", segment.to_string());
        settings.insert("segment.ms", in_millis((config.media_retention.0 / 4).max(Duration::from_secs(10))));
    }
    let name = cluster.topic(topic).to_owned();
    Wanted { name, partitions: config.partitions, replication: config.replication, settings }
}

/// One broker of three may be away.
fn in_sync(replication: u16) -> String {
    if replication >= 3 { "2" } else { "1" }.to_owned()
}

/// Looks at the topics without changing anything.
pub(crate) async fn look(cluster: &Arc<Cluster>, wanted: &[Wanted]) -> Result<Found> {
    let admin = admin(cluster)?;
    let found = look_with(cluster, &admin, wanted).await;
    retire(admin);
    found
}

/// Makes the topics that are missing; what is different about the others, and which were made.
pub(crate) async fn ensure(cluster: &Arc<Cluster>, wanted: &[Wanted]) -> Result<(Vec<Mismatch>, Vec<String>)> {
    let admin = admin(cluster)?;
    let ensured = ensure_with(cluster, &admin, wanted).await;
    retire(admin);
    ensured
}

async fn ensure_with(cluster: &Arc<Cluster>, admin: &Admin, wanted: &[Wanted]) -> Result<(Vec<Mismatch>, Vec<String>)> {
    let Found { missing, mismatches } = look_with(cluster, admin, wanted).await?;
    let mut made = Vec::new();
    if !missing.is_empty() {
        let new = missing.iter().map(|topic| {
            let replication = TopicReplication::Fixed(i32::from(topic.replication));
            let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let new = NewTopic::new(&topic.name, partitions, replication);
            topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        });
        let new: Vec<NewTopic<'_>> = new.collect();
        let timeout = cluster.config.request_timeout.0;
        let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
        let answers = admin.create_topics(&new, &options).await;
        for answer in answers.map_err(|error| request(cluster, "making topics", &error))? {
            match answer {
                Ok(name) => {
                    info!("made the topic {name}");
                    made.push(name);
                }
                // Another process was quicker.
                Err((_, Code::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(cannot_make(cluster, &name, code)),
            }
        }
        until_led(cluster, admin, &missing).await?;
    }
    Ok((mismatches, made))
}

/// Waits until somebody takes records for these topics: the brokers learn of a new one after a moment.
async fn until_led(cluster: &Arc<Cluster>, admin: &Admin, topics: &[Wanted]) -> Result<()> {
    let end = Instant::now() + cluster.config.request_timeout.0;
    loop {
        let metadata = metadata(cluster, admin).await?;
        let led = |topic: &Wanted| {
            let mut found = metadata.topics().iter().filter(|found| found.name() == topic.name);
            found.next().is_some_and(|found| {
                !found.partitions().is_empty() && found.partitions().iter().all(|partition| partition.leader() >= 0)
            })
        };
        match topics.iter().find(|topic| !led(topic)) {
            None => return Ok(()),
            Some(topic) if Instant::now() >= end => {
                return Err(Error::outside(format!("no broker takes records for the topic {}", topic.name)));
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn metadata(cluster: &Arc<Cluster>, admin: &Admin) -> Result<Metadata> {
    let (asking, timeout) = (admin.clone(), cluster.config.request_timeout.0);
    let asked = tokio::task::spawn_blocking(move || asking.inner().fetch_metadata(None, timeout)).await;
    let answer = asked.map_err(|error| Error::ours(format!("cannot ask for topics: {error}")))?;
    answer.map_err(|error| request(cluster, "asking for topics", &error))
}

fn cannot_make(cluster: &Cluster, name: &str, code: Code) -> Error {
    let wrong = |setting: &str| {
        Error::user(format!(
            "the topic {name} cannot be made with this {setting}: {code}; make it yourself, or change it"
        ))
    };
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            forbidden(cluster, &format!("make the topic {name}; make it yourself, or allow it"))
        }
        Code::InvalidReplicationFactor => wrong("bus.kafka.replication"),
        Code::InvalidPartitions => wrong("bus.kafka.partitions"),
        Code::InvalidTopic => wrong("bus.kafka.prefix"),
        Code::InvalidConfig | Code::PolicyViolation => wrong("bus.kafka"),
        code => Error::outside(format!("the topic {name} cannot be made: {code}")),
    }
}

type Admin = Arc<AdminClient<DefaultClientContext>>;

/// Made for each use: nobody listens to what it says of its connection.
fn admin(cluster: &Arc<Cluster>) -> Result<Admin> {
    let mut settings = cluster.settings();
    settings.set_log_level(RDKafkaLogLevel::Emerg);
    let admin = settings.create_with_context(DefaultClientContext);
    admin.map(Arc::new).map_err(|error| request(cluster, "asking for topics", &error))
}

/// It waits for its thread when it goes.
fn retire(admin: Admin) {
    tokio::task::spawn_blocking(move || drop(admin));
}

async fn look_with(cluster: &Arc<Cluster>, admin: &Admin, wanted: &[Wanted]) -> Result<Found> {
    let metadata = metadata(cluster, admin).await?;
    let mut found = Found::default();
    let mut there = Vec::new();
    for topic in wanted {
        match shape(&metadata, &topic.name) {
            None => found.missing.push(topic.clone()),
            Some((partitions, copies)) => {
                let wanted = (topic.partitions as usize, usize::from(topic.replication));
                let mut differs = |setting: &str, found_value: usize, wanted: usize| {
                    found.mismatches.push(mismatch(topic, setting, found_value, wanted));
                };
                if partitions != wanted.0 {
                    differs("partitions", partitions, wanted.0);
                }
                if copies < wanted.1 {
                    differs("replication", copies, wanted.1);
                }
                there.push(topic);
            }
        }
    }
    if there.is_empty() {
        return Ok(found);
    }
    let resources: Vec<_> = there.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(cluster.config.request_timeout.0));
    let answers = admin.describe_configs(&resources, &options).await;
    let answers = answers.map_err(|error| request(cluster, "asking for the settings of topics", &error))?;
    for answer in answers {
        match answer {
            Ok(resource) => {
                let of = |topic: &&&Wanted| resource.specifier == OwnedResourceSpecifier::Topic(topic.name.clone());
                found.mismatches.extend(there.iter().find(of).into_iter().flat_map(|topic| compare(topic, &resource)));
            }
            Err(code) => debug!("the settings of a topic are not told: {code}"),
        }
    }
    Ok(found)
}

/// Partitions and copies of a topic, if it exists.
fn shape(metadata: &Metadata, name: &str) -> Option<(usize, usize)> {
    let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none())?;
    let copies = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
    Some((topic.partitions().len(), copies?))
}

fn mismatch(topic: &Wanted, setting: &str, found: impl fmt::Display, wanted: impl fmt::Display) -> Mismatch {
    let (found, wanted) = (found.to_string(), wanted.to_string());
    Mismatch { topic: topic.name.clone(), setting: setting.to_owned(), found, wanted }
}

/// What differs so that something is lost or refused. A topic that keeps more is as good.
fn compare(topic: &Wanted, resource: &ConfigResource) -> Vec<Mismatch> {
    let entries = resource.entry_map();
    let differing = topic.settings.iter().filter_map(|(setting, wanted)| {
        let found = entries.get(setting)?.value.as_deref()?;
        (!good_enough(setting, found, wanted)).then(|| mismatch(topic, setting, found, wanted))
    });
    differing.collect()
}

fn good_enough(setting: &str, found: &str, wanted: &str) -> bool {
    let numbers = || Some((found.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    match setting {
        "cleanup.policy" => {
            let parts = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
            let (mut found, mut wanted) = (parts(found), parts(wanted));
            found.sort();
            wanted.sort();
            found == wanted
        }
        // Without a bound is as good as any.
        "retention.ms" | "retention.bytes" => numbers().is_none_or(|(found, wanted)| found < 0 || found >= wanted),
        "max.message.bytes" => numbers().is_none_or(|(found, wanted)| found >= wanted),
        "min.insync.replicas" => numbers().is_none_or(|(found, wanted)| found >= wanted),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::good_enough;

    #[test]
    fn what_keeps_less_or_otherwise_is_not_good_enough() {
        for (setting, found, wanted, good) in [
            ("retention.ms", "-1", "600000", true),
            ("retention.ms", "600000", "600000", true),
            ("retention.ms", "599999", "600000", false),
            ("cleanup.policy", "delete,compact", "compact,delete", true),
            ("cleanup.policy", "compact", "delete", false),
            ("max.message.bytes", "1048588", "2000000", false),
            ("segment.bytes", "1", "2", true),
        ] {
            assert_eq!(good_enough(setting, found, wanted), good, "{setting} = {found}, wanted {wanted}");
        }
    }
}
