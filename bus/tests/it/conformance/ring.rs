//! The media topics: appending never waits for a reader, and what follows can.

use crest_core::StreamId;
use crest_core::bus::{SharedBus, Start};
use crest_core::topic::{Topic, group};

use super::{Home, LIMIT, acknowledge_all, number, record, subscribe, take};

const RING: Topic = Topic::MediaAudio;

pub async fn what_nobody_reads_is_taken_and_let_go(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    // More than a ring of the embedded bus keeps.
    let all = async {
        for n in 0..2_000 {
            bus.append(RING, vec![record(RING, "a", n)]).await.unwrap();
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("appending waits for nobody");
    bus.caught_up(RING, &StreamId::from_raw("a")).await.unwrap();
    let mut reader = subscribe(&*bus, RING, "late", Start::Latest).await;
    bus.append(RING, vec![record(RING, "a", 2_000)]).await.unwrap();
    assert_eq!(number(&take(&mut reader, 1).await[0]), 2_000);
}

pub async fn caught_up_is_when_the_reader_has_acknowledged(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    let mut reader = subscribe(&*bus, RING, group::ANALYZE, Start::Acknowledged).await;
    bus.append(RING, (0..3).map(|n| record(RING, "a", n)).collect()).await.unwrap();
    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move { bus.caught_up(RING, &StreamId::from_raw("a")).await }
    });
    let received = take(&mut reader, 3).await;
    reader.acknowledge(received[1].position).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "the last is not acknowledged");
    acknowledge_all(&mut reader, &received).await;
    tokio::time::timeout(LIMIT, waiting).await.expect("caught up").unwrap().unwrap();
    // Nothing of this stream was appended, nothing is waited for.
    tokio::time::timeout(LIMIT, bus.caught_up(RING, &StreamId::from_raw("b"))).await.unwrap().unwrap();
}
