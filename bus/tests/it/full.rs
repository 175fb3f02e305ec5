//! A disk that is full to the last byte: nothing that was acknowledged is lost, and everything goes on
//! by itself, in the same process, once there is room.

use std::time::{Duration, Instant};

use crest_bus::BusConfig;
use crest_core::bus::{Bus, Position, Received, Record, Start};
use crest_core::topic::Topic;
use crest_core::{Fault, StreamId};

use crate::conformance::{assert_waits, subscribe, take};
use crate::small_disk::{SmallDisk, may_mount};

const T: Topic = Topic::ChatMessages;

/// Words of noise in a record of 20 KB.
const LARGE: usize = 2500;

/// A record that says which it is, and takes room: nothing that can be compressed.
fn record(n: u64, words: usize) -> Record {
    let mut state = n + 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    });
    let payload: Vec<u8> = std::iter::once(n.to_be_bytes()).chain(noise.take(words)).flatten().collect();
    Record::new(T, StreamId::from_raw("a"), payload)
}

/// Which it is, if it is whole.
fn number(received: &Received) -> u64 {
    let n = u64::from_be_bytes(received.record.payload[..8].try_into().unwrap());
    assert_eq!(received.record.payload, record(n, received.record.payload.len() / 8 - 1).payload);
    n
}

#[test]
fn a_full_disk_loses_nothing_and_all_goes_on_once_there_is_room() {
    if !may_mount("full::a_full_disk_loses_nothing_and_all_goes_on_once_there_is_room").unwrap() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(full_and_free_again());
}

async fn full_and_free_again() {
    let disk = SmallDisk::mount(8 << 20).unwrap();
    let dir = disk.data().join("bus");
    let bus = crest_bus::open(&dir, BusConfig::default()).unwrap();
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let mut acknowledged = 0..0;
    for round in 0..3 {
        disk.fill("filler", 1 << 20).unwrap();
        // Until it does not fit any more, and then some: each is refused, none is half there.
        let mut refused = 0;
        while refused < 5 {
            match bus.append(T, vec![record(acknowledged.end, LARGE)]).await {
                Ok(()) => acknowledged.end += 1,
                Err(error) => {
                    assert!(error.retryable && matches!(error.fault, Fault::Full | Fault::Outside), "{error}");
                    refused += 1;
                }
            }
        }
        disk.clear("filler").unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while let Err(error) = bus.append(T, vec![record(acknowledged.end, LARGE)]).await {
            assert!(Instant::now() < until, "it does not go on in round {round}: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        acknowledged.end += 1;
    }
    assert!(acknowledged.end > 10, "the disk was full too soon to show anything");
    let read: Vec<u64> = take(&mut reader, acknowledged.end as usize).await.iter().map(number).collect();
    assert_eq!(read, acknowledged.clone().collect::<Vec<_>>(), "to the reader that was there all the time");
    reader.acknowledge(Position { partition: 0, offset: acknowledged.end - 1 }).await.unwrap();
    drop(reader);

    // Small ones wait whole in a buffer, which closing the files may still write out: a record that was
    // refused must not turn up because of that.
    disk.fill("filler", 0).unwrap();
    while bus.append(T, vec![record(acknowledged.end, 10)]).await.is_ok() {
        acknowledged.end += 1;
    }
    disk.clear("filler").unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(error) = bus.flush().await {
        assert!(Instant::now() < until, "it is not opened again: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(bus);

    let bus = crest_bus::open(&dir, BusConfig::default()).unwrap();
    let mut reader = subscribe(&*bus, T, "other", Start::Acknowledged).await;
    let read: Vec<u64> = take(&mut reader, acknowledged.end as usize).await.iter().map(number).collect();
    assert_eq!(read, acknowledged.collect::<Vec<_>>(), "after the next start");
    assert_waits(&mut reader).await;
}
