//! Members of a group that are started again, and one that is stuck.

use std::time::Duration;

use crest_core::bus::{Next, SharedBus, Start, Subscription};
use crest_core::topic::Topic;
use crest_core::units::Span;

use super::{Cluster, figures, unique};
use crate::conformance::{Home, LIMIT, join, next, number, record};

const T: Topic = Topic::Signals;
const STREAMS: u64 = 20;

/// What a subscription holds after it was told this.
fn tell(held: &mut Vec<u32>, told: &Next) {
    match told {
        Next::Assigned(assigned) => held.extend(assigned.iter().map(|a| a.partition)),
        Next::Revoked(revoked) => held.retain(|partition| !revoked.contains(partition)),
        Next::Records(_) => {}
    }
}

/// Two members that share the partitions.
async fn pair(
    one: &SharedBus,
    other: &SharedBus,
    group: &str,
) -> ((Box<dyn Subscription>, Vec<u32>), (Box<dyn Subscription>, Vec<u32>)) {
    let (mut first, assigned) = join(&**one, T, group, Start::Acknowledged).await;
    let mut held: Vec<u32> = assigned.iter().map(|a| a.partition).collect();
    assert_eq!(held.len(), 4);
    let mut second = other.subscribe(T, group, Start::Acknowledged).await.unwrap();
    let mut held_too = Vec::new();
    let sharing = async {
        while (held.len(), held_too.len()) != (2, 2) {
            tokio::select! {
                told = first.next(1) => tell(&mut held, &told.unwrap()),
                told = second.next(1) => tell(&mut held_too, &told.unwrap()),
            }
        }
    };
    tokio::time::timeout(LIMIT, sharing).await.expect("they share");
    ((first, held), (second, held_too))
}

async fn append_to_all(bus: &SharedBus, n: u64) {
    let records = (0..STREAMS).map(|stream| record(T, &format!("stream_{stream}"), n)).collect();
    bus.append(T, records).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_started_again_in_time_has_what_it_had_and_nobody_notices() {
    figures::start();
    let cluster = Cluster::empty().await;
    let stays: SharedBus = cluster.open_as("stays").await.unwrap();
    let restarts: SharedBus = cluster.open_as("restarts").await.unwrap();
    // The figures are of the process, in which both of them are.
    let group = format!("static_{}", unique());
    let ((mut first, _), (second, mut held)) = pair(&stays, &restarts, &group).await;
    let changes = || figures::counter("crest_bus_rebalances_total", &[("group", &group)]);
    let before = changes();

    // As a process that ends, and is started again.
    drop((second, restarts));
    let restarts: SharedBus = cluster.open_as("restarts").await.unwrap();
    let (mut second, again) = join(&*restarts, T, &group, Start::Acknowledged).await;
    let mut again: Vec<u32> = again.iter().map(|a| a.partition).collect();
    again.sort_unstable();
    held.sort_unstable();
    assert_eq!(again, held, "the same partitions");
    append_to_all(&restarts, 1).await;
    let mut records = 0;
    while records < STREAMS {
        let told = tokio::select! {
            told = next(&mut first, 100) => told,
            told = next(&mut second, 100) => told,
        };
        let Next::Records(more) = told else { panic!("{told:?}") };
        records += more.len() as u64;
    }
    // One change for the end of the first, where it gave up what it had, and one for what the second got.
    assert!(changes() <= before + 2, "{before} before, {} after", changes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stuck_loses_its_partitions_and_gets_nothing_more_of_them() {
    let mut cluster = Cluster::empty().await;
    cluster.config.stall_timeout = Span::secs(7);
    cluster.config.handover = Span::secs(1);
    let stuck_bus: SharedBus = cluster.open_as("stuck").await.unwrap();
    let other_bus: SharedBus = cluster.open_as("other").await.unwrap();
    let ((mut stuck, held), (mut other, mut held_too)) = pair(&stuck_bus, &other_bus, "stuck").await;
    append_to_all(&stuck_bus, 1).await;
    // It was handed something, and does not come back for more.
    let Next::Records(handed) = next(&mut stuck, 1).await else { panic!("records") };
    let mut seen = Vec::new();
    let taking_over = async {
        while held_too.len() < 4 || seen.len() < STREAMS as usize {
            let told = other.next(100).await.unwrap();
            tell(&mut held_too, &told);
            if let Next::Records(records) = told {
                seen.extend(records.into_iter().map(|r| r.record.key));
            }
        }
    };
    tokio::time::timeout(LIMIT, taking_over).await.expect("the other takes over");
    assert!(seen.contains(&handed[0].record.key), "what was handed out and not acknowledged comes there");

    // It comes back: it is told first, and what it had in hand counts no more.
    let Next::Revoked(mut revoked) = next(&mut stuck, 100).await else { panic!("it is told that it lost them") };
    let mut held = held;
    revoked.sort_unstable();
    held.sort_unstable();
    assert_eq!(revoked, held);
    stuck.acknowledge(handed[0].position).await.unwrap();
    // And has its share again after that.
    let mut held = Vec::new();
    let sharing = async {
        while (held.len(), held_too.len()) != (2, 2) {
            tokio::select! {
                told = stuck.next(100) => {
                    let told = told.unwrap();
                    if let Next::Records(records) = &told {
                        assert!(records.iter().all(|r| held.contains(&r.position.partition)), "{records:?}");
                    }
                    tell(&mut held, &told);
                }
                told = other.next(100) => tell(&mut held_too, &told.unwrap()),
            }
        }
    };
    tokio::time::timeout(LIMIT, sharing).await.expect("they share again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_and_what_is_left_is_counted() {
    figures::start();
    let cluster = Cluster::empty().await;
    let bus: SharedBus = cluster.open().await;
    let group = format!("counted_{}", unique());
    let of = |name: &str| figures::counter(name, &[("topic", "signals"), ("group", &group)]);
    let (mut reader, _) = join(&*bus, T, &group, Start::Acknowledged).await;
    append_to_all(&bus, 7).await;
    figures::until("the lag is known", || of("crest_bus_lag_records") == STREAMS).await;
    assert_eq!(of("crest_bus_partitions"), 4);
    assert!(of("crest_bus_rebalances_total") > 0);
    assert!(figures::counter("crest_bus_append_seconds", &[("topic", "signals")]) > 0);
    let mut left = STREAMS;
    while left > 0 {
        let Next::Records(records) = next(&mut reader, 100).await else { continue };
        assert!(records.iter().all(|received| number(received) == 7));
        left -= records.len() as u64;
        for received in &records {
            reader.acknowledge(received.position).await.unwrap();
        }
    }
    assert_eq!((of("crest_bus_read_records_total"), of("crest_bus_read_bytes_total")), (STREAMS, STREAMS));
    figures::until("nothing is left", || of("crest_bus_lag_records") == 0).await;
    drop(reader);
    figures::until("nothing is held", || of("crest_bus_partitions") == 0).await;
    tokio::time::timeout(Duration::from_secs(30), bus.flush()).await.unwrap().unwrap();
}
