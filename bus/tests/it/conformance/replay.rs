//! Where reading goes on.

use crest_core::bus::{Assigned, Position, SharedBus, Start};

use super::{Home, T, acknowledge_all, append, assert_waits, join, number, numbers, subscribe, subscribe_at, take};

pub async fn what_was_not_acknowledged_comes_again(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    append(&*bus, "a", 0..5).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let first = take(&mut reader, 5).await;
    reader.acknowledge(first[2].position).await.unwrap();
    reader.acknowledge(first[0].position).await.unwrap();
    drop(reader);
    let mut again = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    assert_eq!(take(&mut again, 2).await, first[3..], "an older acknowledgement takes nothing back");
    let mut other = subscribe(&*bus, T, "other", Start::Acknowledged).await;
    assert_eq!(take(&mut other, 5).await, first, "groups do not disturb each other");
}

pub async fn a_reader_begins_where_it_asks_to(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    append(&*bus, "a", 0..10).await;
    let (mut first, empty) = join(&*bus, T, "g", Start::Acknowledged).await;
    let all = take(&mut first, 10).await;
    let home_of_a = all[0].position.partition;
    let held = |assigned: &[Assigned]| assigned.iter().copied().find(|a| a.partition == home_of_a).unwrap();
    assert_eq!((held(&empty).first, held(&empty).end), (all[0].position.offset, all[9].position.offset + 1));
    acknowledge_all(&mut first, &all).await;
    drop(first);

    let mut everything = subscribe_at(&*bus, T, "everything", 0).await;
    assert_eq!(take(&mut everything, 10).await, all);

    // The same group: where it asks to counts, not what was acknowledged.
    let (mut replay, assigned) = join(&*bus, T, "g", Start::Asked).await;
    assert_waits(&mut replay).await;
    replay.begin(all[4].position).await.unwrap();
    assert_eq!(take(&mut replay, 6).await, all[4..]);
    // What it did not begin is not handed out.
    let elsewhere = assigned.iter().find(|a| a.partition != home_of_a);
    if let Some(other) = elsewhere {
        let key = key_in(&bus, other.partition).await;
        append(&*bus, &key, 100..103).await;
        append(&*bus, "a", [u64::MAX].into_iter()).await;
        loop {
            let next = take(&mut replay, 1).await.remove(0);
            assert_eq!(next.position.partition, home_of_a);
            if number(&next) == u64::MAX {
                break;
            }
        }
        replay.begin(Position { partition: other.partition, offset: other.end }).await.unwrap();
        let begun = numbers(&take(&mut replay, 4).await);
        assert_eq!(begun[&key], [0, 100, 101, 102]);
    }
    drop(replay);

    let mut latest = subscribe(&*bus, T, "latest", Start::Latest).await;
    append(&*bus, "a", 10..11).await;
    assert_eq!(number(&take(&mut latest, 1).await[0]), 10);
}

/// A stream that lies in this partition; one record of it, number 0, is there.
async fn key_in(bus: &SharedBus, partition: u32) -> String {
    let mut probe = subscribe(&**bus, T, "probe", Start::Latest).await;
    for n in 0.. {
        let key = format!("probe_{n}");
        append(&**bus, &key, 0..1).await;
        if take(&mut probe, 1).await[0].position.partition == partition {
            return key;
        }
    }
    unreachable!()
}

/// A stage that keeps a little state sees again what it had worked off, marked as such.
pub async fn a_reader_rewinds_over_what_it_has_seen(home: &impl Home) {
    let bus = home.open().await;
    append(&*bus, "a", 0..10).await;
    let mut first = subscribe(&*bus, T, "g", Start::Rewound(4)).await;
    let all = take(&mut first, 10).await;
    assert!(all.iter().all(|r| !r.seen), "nothing was acknowledged yet");
    first.acknowledge(all[6].position).await.unwrap();
    drop(first);
    let mut again = subscribe(&*bus, T, "g", Start::Rewound(4)).await;
    let marked: Vec<(u64, bool)> = take(&mut again, 7).await.iter().map(|r| (number(r), r.seen)).collect();
    assert_eq!(marked, [(3, true), (4, true), (5, true), (6, true), (7, false), (8, false), (9, false)]);
    drop(again);
    let mut from_the_first = subscribe(&*bus, T, "g", Start::Rewound(100)).await;
    assert_eq!(number(&take(&mut from_the_first, 1).await[0]), 0);
}

pub async fn it_goes_on_after_a_process_that_closed_nothing(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    append(&*bus, "a", 0..5).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let before = take(&mut reader, 5).await;
    reader.acknowledge(before[1].position).await.unwrap();
    drop((reader, bus));
    let bus: SharedBus = home.open().await;
    append(&*bus, "a", 5..6).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let after = take(&mut reader, 4).await;
    assert_eq!(after[..3], before[2..]);
    assert_eq!(number(&after[3]), 5);
    assert!(after[3].position.offset > before[4].position.offset, "no position is given out twice");
}
