//! Payloads in the object storage.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crest_core::StreamId;
use crest_core::bus::{Bus, Record, Start};
use crest_core::topic::Topic;

use super::Cluster;
use crate::conformance::{Home, LIMIT, acknowledge_all, number, record, subscribe, take};

const T: Topic = Topic::Signals;

fn large(byte: u8) -> Record {
    Record::new(T, StreamId::from_raw("a"), vec![byte; 2_000_000])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_lies_elsewhere_and_comes_back_whole() {
    let cluster = Cluster::empty().await;
    let bus = cluster.open().await;
    bus.append(T, vec![record(T, "a", 1), large(7), record(T, "a", 2)]).await.unwrap();
    let keys = cluster.objects.keys();
    let folder = format!("claims/{}signals/", cluster.config.prefix);
    assert!(keys.len() == 1 && keys[0].starts_with(&folder), "{keys:?}");
    // The storage is away: the reader says so, and goes on when it is back.
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    cluster.objects.away.store(true, Ordering::Relaxed);
    assert_eq!(number(&take(&mut reader, 1).await[0]), 1);
    let error = tokio::time::timeout(LIMIT, reader.next(10)).await.unwrap().unwrap_err();
    assert!(error.retryable && error.message.contains("storage.url"), "{error}");
    let refused = bus.append(T, vec![large(8)]).await.unwrap_err();
    assert!(refused.retryable && refused.message.contains("object storage"), "{refused}");
    cluster.objects.away.store(false, Ordering::Relaxed);
    let rest = take(&mut reader, 2).await;
    assert!(rest[0].record == large(7));
    assert_eq!(number(&rest[1]), 2);
    acknowledge_all(&mut reader, &rest).await;

    // An object that is lost or damaged costs its record, and nothing else.
    bus.append(T, vec![large(9), large(10), record(T, "a", 3)]).await.unwrap();
    let new: Vec<_> = cluster.objects.keys().into_iter().filter(|key| !keys.contains(key)).collect();
    std::fs::write(cluster.objects.path.join(&new[0]), b"damaged").unwrap();
    std::fs::remove_file(cluster.objects.path.join(&new[1])).unwrap();
    assert_eq!(number(&take(&mut reader, 1).await[0]), 3);
    let letters = bus.dead_letters(T, 10).await.unwrap();
    assert_eq!(letters.len(), 2, "{letters:?}");
    for why in ["is damaged", "is not in the object storage"] {
        assert!(letters.iter().any(|letter| letter.reason.contains(why)), "{why}: {letters:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_record_names_any_more_is_removed() {
    let cluster = Cluster::empty().await;
    let bus = cluster.open().await;
    bus.append(T, vec![large(1)]).await.unwrap();
    let [young] = &cluster.objects.keys()[..] else { panic!("one object") };
    let parts: Vec<&str> = young.split('/').collect();
    let hour: u64 = parts[2].parse().unwrap();
    let days = cluster.config.retention.0.as_secs() / 86400;
    // Just old enough, not quite, somebody else's, and nothing that was put there by the bus.
    let of = |topic: &str, days: u64| format!("claims/{topic}/{}/{}", hour - days * 24, parts[3]);
    let old = [of(parts[1], days + 2), of(&format!("{}marks", cluster.config.prefix), days + 2)];
    let kept = [young.clone(), of(parts[1], days), of("others", days + 2), format!("claims/{}/notes.txt", parts[1])];
    for key in old.iter().chain(&kept) {
        let file = cluster.objects.path.join(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, b"x").unwrap();
    }
    let removed = tokio::time::timeout(Duration::from_secs(30), bus.remove_old_claims()).await.unwrap();
    assert_eq!(removed.unwrap(), 2);
    let (mut left, mut kept) = (cluster.objects.keys(), kept.to_vec());
    left.sort();
    kept.sort();
    assert_eq!(left, kept);
}
