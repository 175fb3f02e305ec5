//! What cannot be read is set aside, and the rest goes on.

use crest_core::bus::{Bus, Record, SharedBus, Start};

use super::{Home, T, acknowledge_all, append, number, record, subscribe, take};

pub async fn a_poisonous_record_holds_nobody_up<H: Home>(home: &H) {
    let bus = home.open().await;
    append(&*bus, "a", 0..2).await;
    let newer = Record { schema_version: T.schema_version() + 1, ..record(T, "a", 666) };
    bus.append(T, vec![newer]).await.unwrap();
    append(&*bus, "a", 2..4).await;
    let mut last = Vec::new();
    for group in ["g", "another"] {
        let mut reader = subscribe(&*bus, T, group, Start::Acknowledged).await;
        last = take(&mut reader, 4).await;
        assert_eq!(last.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        acknowledge_all(&mut reader, &last).await;
    }
    let mut set_aside = home.dead_letters(&bus, T).await;
    set_aside.dedup();
    assert_eq!(set_aside.len(), 1, "{set_aside:?}");
    assert_eq!(set_aside[0].0.partition, last[0].position.partition);
    assert!((last[1].position.offset..last[2].position.offset).contains(&set_aside[0].0.offset), "{set_aside:?}");
    assert!(set_aside[0].1.contains("schema version"), "{set_aside:?}");
}

pub async fn a_reader_sets_aside_what_it_cannot_use<H: Home>(home: &H) {
    let bus = home.open().await;
    append(&*bus, "a", 0..2).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let received = take(&mut reader, 2).await;
    bus.dead_letter(T, &received[0], "not an Arrow record").await.unwrap();
    bus.dead_letter(T, &received[0], "not an Arrow record").await.unwrap();
    let expected = [(received[0].position, "not an Arrow record".to_owned())];
    let mut set_aside = home.dead_letters(&bus, T).await;
    set_aside.dedup();
    assert_eq!(set_aside, expected);
    let shared: SharedBus = bus.clone();
    shared.flush().await.unwrap();
    drop((bus, shared, reader));
    let mut set_aside = home.dead_letters(&*home.open().await, T).await;
    set_aside.dedup();
    assert_eq!(set_aside, expected);
}
