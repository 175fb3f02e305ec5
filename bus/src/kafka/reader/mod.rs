//! Reading a topic as a member of a group: a subscription is one consumer with a thread of its own.

mod context;
mod members;
mod state;
mod subscription;
mod thread;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crest_core::bus::{Partition, Start, Subscription};
use crest_core::topic::Topic;
use crest_core::{Error, Result};

use super::claims::Claims;
use super::cluster::Cluster;
use super::dead_letters::DeadLetters;
use super::watch::{code, passes, request};
use members::Seat;
use subscription::Reader;
use thread::Thread;

pub(crate) use members::none_leaving_of;
pub(crate) use state::{Shared, State};

/// How long it is waited before the brokers are asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Joins a group.
pub(crate) async fn open(
    cluster: &Arc<Cluster>,
    topic: Topic,
    group: &str,
    start: Start,
    claims: Arc<Claims>,
    dead_letters: Arc<DeadLetters>,
    missing: Arc<dyn Fn() + Send + Sync>,
) -> Result<Box<dyn Subscription>> {
    let most = usize::try_from(cluster.config.prefetch_bytes.as_u64() / 2).unwrap_or(usize::MAX);
    let shared = Arc::new(Shared::new(cluster.clone(), topic, group, start, most));
    let name = format!("{} {} {}", cluster.brokers, cluster.group(topic, group), cluster.member(topic, 0));
    let seat = Arc::new(Seat::take(cluster.number, &name, cluster.config.request_timeout.0).await);
    let (joining, taken) = (shared.clone(), seat.clone());
    // Makes threads, and asks the brokers where a latest begins.
    let connect = move || {
        let client = Thread::connect(&joining, &taken)?;
        let ends = if start == Start::Latest { ends(&client, &joining)? } else { BTreeMap::new() };
        Ok::<_, Error>((client, ends))
    };
    let joined = tokio::task::spawn_blocking(connect).await;
    let (client, ends) = joined.map_err(|error| Error::ours(format!("cannot join a group: {error}")))??;
    let thread = Thread::new(shared.clone(), seat.clone(), ends, missing);
    std::thread::Builder::new()
        .name(format!("kafka {}", topic.name()))
        .spawn(move || thread.run(client))
        .map_err(|error| Error::outside(format!("no thread can be made to read {}: {error}", topic.name())))?;
    Ok(Box::new(Reader { shared, seat, claims, dead_letters }))
}

/// Where the partitions end now.
fn ends(client: &context::Client, shared: &Shared) -> Result<BTreeMap<Partition, u64>> {
    let (cluster, timeout) = (&shared.cluster, shared.cluster.config.request_timeout.0);
    let ask = || {
        let metadata = client.fetch_metadata(Some(shared.name()), timeout)?;
        let mut ends = BTreeMap::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let (_, end) = client.fetch_watermarks(shared.name(), partition.id(), timeout)?;
            if let (Ok(partition), Ok(end)) = (Partition::try_from(partition.id()), u64::try_from(end)) {
                ends.insert(partition, end);
            }
        }
        Ok::<_, KafkaError>(ends)
    };
    let end = Instant::now() + timeout;
    loop {
        match ask() {
            Ok(ends) => return Ok(ends),
            Err(error) if passes(code(&error)) && Instant::now() < end => std::thread::sleep(AGAIN),
            Err(error) => return Err(request(cluster, "asking where partitions end", &error)),
        }
    }
}
