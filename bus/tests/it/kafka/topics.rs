//! The topics in the cluster.

use bytesize::ByteSize;
use crest_bus::kafka;
use crest_core::bus::Start;
use crest_core::topic::Topic;
use crest_core::units::Span;

use super::{Cluster, broker, raw};
use crate::conformance::{Home, join, number, record, take};

#[tokio::test]
async fn missing_topics_are_made_as_they_should_be() {
    let mut cluster = Cluster::empty().await;
    cluster.config.retention = Span::secs(3 * 86400);
    cluster.config.media_retention = Span::secs(120);
    cluster.config.media_bytes = ByteSize::mib(200);
    let brokers = [cluster.brokers.clone()];
    let before = kafka::check(&brokers, cluster.config.clone()).await.unwrap();
    assert_eq!((before.there, before.missing.len(), before.mismatches.len()), (0, 10, 0));
    let name = |name: &str| format!("{}{name}", cluster.config.prefix);
    assert!(before.missing.contains(&name("signals")));
    assert_eq!(raw::topic(&cluster.brokers, &name("signals")).await, None, "a look makes nothing");

    cluster.open().await;
    let after = kafka::check(&brokers, cluster.config.clone()).await.unwrap();
    assert_eq!((after.there, after.missing.len(), after.mismatches), (10, 0, vec![]));
    let days = (3 * 86_400_000).to_string();
    for (topic, expected) in [
        ("signals", vec![("partitions", "4"), ("cleanup.policy", "delete"), ("retention.ms", &days)]),
        ("media.segments", vec![("cleanup.policy", "delete"), ("retention.ms", &days)]),
        (
            "media.video",
            vec![
                ("partitions", "4"),
                ("cleanup.policy", "delete"),
                ("retention.ms", "120000"),
                ("retention.bytes", "209715200"),
                ("segment.bytes", "52428800"),
            ],
        ),
        ("control", vec![("cleanup.policy", "compact")]),
        ("dead-letters", vec![("partitions", "1"), ("cleanup.policy", "compact,delete"), ("retention.ms", &days)]),
    ] {
        let found = raw::topic(&cluster.brokers, &name(topic)).await.unwrap();
        for (setting, value) in expected {
            assert_eq!(found[setting], value, "{setting} of {topic}");
        }
        assert_eq!(found["min.insync.replicas"], "1", "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_there_is_used_as_it_is_and_what_is_wrong_is_said() {
    let cluster = Cluster::empty().await;
    let brokers = [cluster.brokers.clone()];
    let name = format!("{}signals", cluster.config.prefix);
    let wrong = [("retention.ms", "60000"), ("cleanup.policy", "compact"), ("max.message.bytes", "2000000")];
    raw::make(&cluster.brokers, &name, 2, &wrong).await;
    let bus = cluster.open().await;

    let checked = kafka::check(&brokers, cluster.config.clone()).await.unwrap();
    let mut said: Vec<String> = checked.mismatches.iter().map(ToString::to_string).collect();
    said.sort();
    let expected = [
        format!("the topic {name} has cleanup.policy = compact, crest would set delete"),
        format!("the topic {name} has partitions = 2, crest would set 4"),
        format!("the topic {name} has retention.ms = 60000, crest would set 604800000"),
    ];
    assert_eq!(said, expected);
    let found = raw::topic(&cluster.brokers, &name).await.unwrap();
    for (setting, value) in wrong {
        assert_eq!(found[setting], value);
    }

    let (mut reader, assigned) = join(&*bus, Topic::Signals, "g", Start::Acknowledged).await;
    assert_eq!(assigned.len(), 2);
    let bus: crest_core::bus::SharedBus = bus;
    for n in 0..10 {
        bus.append(Topic::Signals, vec![record(Topic::Signals, &format!("stream_{n}"), n)]).await.unwrap();
    }
    let mut numbers: Vec<u64> = take(&mut reader, 10).await.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_copies_than_brokers_is_refused_by_the_name_of_the_setting() {
    let mut cluster = Cluster::on(broker::shared());
    cluster.config.replication = 3;
    let refused = cluster.open_as("one").await.err().unwrap();
    assert!(!refused.retryable, "{refused}");
    assert!(refused.message.contains("bus.kafka.replication"), "{refused}");
}
