//! What an operator, or a program that is not crest, does to the cluster.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::HashMap;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn settings(brokers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers);
    settings
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    settings(brokers).create().unwrap()
}

/// Makes a topic.
pub async fn make(brokers: &str, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = config.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    admin(brokers).create_topics([&topic], &options).await.unwrap().remove(0).unwrap();
}

/// Deletes a topic.
pub async fn delete(brokers: &str, name: &str) {
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    admin(brokers).delete_topics(&[name], &options).await.unwrap().remove(0).unwrap();
}

/// Deletes the topics whose names begin so, as far as that is possible.
pub fn delete_all(brokers: &str, prefix: &str) {
    let (brokers, prefix) = (brokers.to_owned(), prefix.to_owned());
    let deleting = std::thread::spawn(move || {
        let admin = admin(&brokers);
        let Ok(metadata) = admin.inner().fetch_metadata(None, Duration::from_secs(5)) else { return };
        let names: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
        let names: Vec<&str> = names.into_iter().filter(|name| name.starts_with(&prefix)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(admin.delete_topics(&names, &AdminOptions::new()));
    });
    let _ = deleting.join();
}

/// A topic's settings, its partitions among them; `None` where there is no such topic.
pub async fn topic(brokers: &str, name: &str) -> Option<HashMap<String, String>> {
    let admin = admin(brokers);
    let metadata = admin.inner().fetch_metadata(None, LIMIT).unwrap();
    let partitions = metadata.topics().iter().find(|topic| topic.name() == name)?.partitions().len();
    let described = admin.describe_configs([&ResourceSpecifier::Topic(name)], &AdminOptions::new()).await.unwrap();
    let entries = &described[0].as_ref().unwrap().entries;
    let mut settings: HashMap<String, String> =
        entries.iter().map(|entry| (entry.name.clone(), entry.value.clone().unwrap_or_default())).collect();
    settings.insert("partitions".to_owned(), partitions.to_string());
    Some(settings)
}

/// Puts something on partition 0 of a topic.
pub fn put(brokers: &str, topic: &str, key: Option<&[u8]>, value: &[u8], headers: &[(&str, &[u8])]) {
    let producer: BaseProducer = settings(brokers).create().unwrap();
    let with =
        |headers: OwnedHeaders, (key, value): &(&str, &[u8])| headers.insert(Header { key, value: Some(*value) });
    let headers = headers.iter().fold(OwnedHeaders::new(), with);
    let record = BaseRecord::to(topic).partition(0).payload(value).headers(headers);
    let sent = match key {
        Some(key) => producer.send(record.key(key)),
        None => producer.send(BaseRecord::<[u8], [u8]> { key: None, ..record }),
    };
    sent.map_err(|(error, _)| error).unwrap();
    producer.flush(LIMIT).unwrap();
}
