//! Records that crest did not write, or that this build cannot read.

use crest_core::bus::{Bus, Start};
use crest_core::topic::Topic;

use super::{Cluster, raw};
use crate::conformance::{Home, acknowledge_all, number, record, subscribe, take};

const T: Topic = Topic::Signals;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_is_set_aside_as_it_was_found() {
    let mut cluster = Cluster::empty().await;
    cluster.config.partitions = 1;
    let bus = cluster.open().await;
    let topic = format!("{}signals", cluster.config.prefix);
    let put = |key: Option<&[u8]>, value: &[u8], headers: &[(&str, &[u8])]| {
        raw::put(&cluster.brokers, &topic, key, value, headers);
    };
    let good: (&str, &[u8]) = ("schema-version", b"1");
    bus.append(T, vec![record(T, "a", 0)]).await.unwrap();
    put(Some(b"a"), b"no headers", &[]);
    put(Some(b"a"), b"from the future", &[("schema-version", b"7"), ("other", b"kept")]);
    put(Some(b"a"), b"odd version", &[("schema-version", b"seven")]);
    put(None, b"no key", &[good]);
    put(Some(b"\xff\xfe"), b"odd key", &[good]);
    let nowhere = format!("claims/{topic}/480000/{:032x}", 7);
    put(Some(b"a"), b"", &[good, ("claim", nowhere.as_bytes())]);
    put(Some(b"a"), b"", &[good, ("claim", b"../../etc/passwd")]);
    bus.append(T, vec![record(T, "a", 1)]).await.unwrap();

    for group in ["one", "another"] {
        let mut reader = subscribe(&*bus, T, group, Start::Acknowledged).await;
        let read = take(&mut reader, 2).await;
        assert_eq!(read.iter().map(number).collect::<Vec<_>>(), [0, 1]);
        acknowledge_all(&mut reader, &read).await;
    }
    let letters = bus.dead_letters(T, 100).await.unwrap();
    let found: Vec<(u64, &[u8])> = letters.iter().map(|l| (l.position.offset, &l.frame[..])).collect();
    let values: [&[u8]; 7] = [b"no headers", b"from the future", b"odd version", b"no key", b"odd key", b"", b""];
    assert_eq!(found, (1..).zip(values).collect::<Vec<_>>());
    let reasons = ["no header", "schema version is 7", "not a number", "no key", "not text", "not in", "none of this"];
    for (letter, why) in letters.iter().zip(reasons) {
        assert!(letter.reason.contains(why), "{letter:?}");
    }
    assert_eq!(bus.dead_letters(T, 2).await.unwrap(), letters[5..], "the newest");
    assert_eq!(bus.dead_letters(Topic::Marks, 100).await.unwrap(), []);
    // As a member that saw them before does not set them aside again.
    let mut rewound = subscribe(&*bus, T, "one", Start::Rewound(100)).await;
    assert_eq!(take(&mut rewound, 2).await.iter().map(|r| r.seen).collect::<Vec<_>>(), [true, true]);
}
