//! A stage that is slower than its topic, while partitions move.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use crest_core::StreamId;
use crest_core::bus::{Next, Record, SharedBus, Start};
use crest_core::topic::Topic;

use super::Cluster;
use crate::conformance::{Home, acknowledge_all, next, subscribe};

const T: Topic = Topic::Signals;
const STREAMS: u32 = 12;
/// Records of each stream, and bytes of each: far more than is brought along.
const RECORDS: u32 = 400;
const BYTES: usize = 10_000;
/// Longer than a full read-ahead waits before fetching is paused.
const REST: Duration = Duration::from_millis(800);

fn numbered(stream: u32, n: u32) -> Record {
    let mut payload = vec![0; BYTES];
    payload[..4].copy_from_slice(&n.to_be_bytes());
    Record::new(T, StreamId::from_raw(format!("stream_{stream}")), payload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_or_comes_twice_when_fetching_is_paused() {
    let mut cluster = Cluster::empty().await;
    cluster.config.prefetch_bytes = ByteSize::mib(4);
    let bus: SharedBus = cluster.open().await;
    for n in 0..RECORDS {
        bus.append(T, (0..STREAMS).map(|stream| numbered(stream, n)).collect()).await.unwrap();
    }
    let mut reader = subscribe(&*bus, T, "slow", Start::Acknowledged).await;
    let mut beside: Option<SharedBus> = Some(cluster.open_beside().await);
    let mut held: Vec<u32> = (0..4).collect();
    let mut next_of: BTreeMap<StreamId, u32> = BTreeMap::new();
    let mut taken = 0;
    while taken < STREAMS * RECORDS {
        // It rests, and while it does another one joins, which leaves again once it has its share.
        if taken / 400 < 10 {
            tokio::time::sleep(REST).await;
        }
        if let Some(beside) = beside.take_if(|_| taken / 400 >= 2) {
            let mut guest = beside.subscribe(T, "slow", Start::Acknowledged).await.unwrap();
            tokio::spawn(async move { while !matches!(next(&mut guest, 1).await, Next::Assigned(_)) {} });
            tokio::time::sleep(3 * REST).await;
        }
        let mut burst = 0;
        while burst < 200 && taken < STREAMS * RECORDS {
            match next(&mut reader, 50).await {
                Next::Assigned(assigned) => held.extend(assigned.iter().map(|a| a.partition)),
                Next::Revoked(revoked) => held.retain(|partition| !revoked.contains(partition)),
                Next::Records(records) => {
                    for received in &records {
                        assert!(held.contains(&received.position.partition));
                        let n = u32::from_be_bytes(received.record.payload[..4].try_into().unwrap());
                        let expected = next_of.entry(received.record.key.clone()).or_default();
                        assert_eq!(n, *expected, "{}", received.record.key);
                        *expected += 1;
                    }
                    (burst, taken) = (burst + records.len() as u32, taken + records.len() as u32);
                    acknowledge_all(&mut reader, &records).await;
                }
            }
        }
    }
    held.sort_unstable();
    assert_eq!(held, [0, 1, 2, 3], "what the other one had came back");
}
