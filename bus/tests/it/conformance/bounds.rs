//! What is large, and what piles up.

use bytes::Bytes;

use crest_bus::MAX_PAYLOAD_BYTES;
use crest_core::bus::{Record, SharedBus, Start};
use crest_core::topic::Topic;
use crest_core::{Fault, StreamId};

use super::kill::Running;
use super::{Home, T, acknowledge_all, subscribe, take};

/// Records of the backlog.
const BACKLOG: usize = 2048;
/// Bytes of each of them: 128 MiB in all.
const BYTES: usize = 64 << 10;
/// What the process may have in memory with all of it unread, in KiB.
const MEMORY_KIB: u64 = 110 << 10;

/// A record of noise, different for each `n`.
fn large(topic: Topic, n: u64, bytes: usize) -> Record {
    let mut state = n + 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    });
    let payload: Vec<u8> = noise.flatten().take(bytes).collect();
    Record::new(topic, StreamId::from_raw(format!("stream_{}", n % 5)), payload)
}

pub async fn large_payloads_arrive_and_larger_ones_are_refused(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    for topic in [T, Topic::MediaVideo] {
        let mut reader = subscribe(&*bus, topic, "g", Start::Latest).await;
        for bytes in [5_000_000, MAX_PAYLOAD_BYTES, 0] {
            let sent = large(topic, bytes as u64, bytes);
            bus.append(topic, vec![sent.clone()]).await.unwrap();
            let received = take(&mut reader, 1).await;
            assert!(received[0].record == sent, "{bytes} bytes on {topic:?} came back as they were");
            acknowledge_all(&mut reader, &received).await;
        }
        let too_large = Record::new(topic, StreamId::from_raw("a"), Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]));
        let refused = bus.append(topic, vec![large(topic, 0, 10), too_large]).await.unwrap_err();
        assert_eq!((refused.fault, refused.retryable), (Fault::User, false), "{refused}");
        assert!(refused.message.contains(&MAX_PAYLOAD_BYTES.to_string()), "{refused}");
        assert!(refused.message.contains(topic.name()), "{refused}");
    }
}

/// The process that is measured: it is to be alone in its memory.
pub async fn idle(bus: SharedBus) {
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    for n in 0..BACKLOG as u64 {
        bus.append(T, vec![large(T, n, BYTES)]).await.unwrap();
    }
    // It takes the first, and no more: what is brought along for it must have a bound.
    let first = take(&mut reader, 1).await;
    reader.acknowledge(first[0].position).await.unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    println!("peak {}", peak.trim());
}

pub async fn a_reader_that_takes_nothing_costs_no_memory(home: &impl Home) {
    let peak = Running::start(home, "idle").says("peak").expect("nothing is refused");
    assert!(peak < MEMORY_KIB, "{peak} KiB for a backlog of {BACKLOG} records of {BYTES} bytes");
    let bus: SharedBus = home.open().await;
    let mut reader = subscribe(&*bus, T, "other", Start::Acknowledged).await;
    let mut expected: Vec<Record> = (0..BACKLOG as u64).map(|n| large(T, n, BYTES)).rev().collect();
    let mut waiting: Vec<Record> = Vec::new();
    for _ in 0..BACKLOG {
        let received = take(&mut reader, 1).await.remove(0);
        // In order by stream.
        let at = loop {
            match waiting.iter().position(|r| r.key == received.record.key) {
                Some(at) => break at,
                None => waiting.push(expected.pop().expect("no more than were appended")),
            }
        };
        assert!(waiting.remove(at) == received.record, "a record of {} is missing or not whole", received.record.key);
    }
}
