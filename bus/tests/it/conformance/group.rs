//! Members of a group share the work where the home shares.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crest_core::bus::{Bus, SharedBus, Start};

use super::members::{Event, Ledger, Member, check, highest};
use super::{Home, T, append, join, number, record, subscribe, take};

const STREAMS: u64 = 40;

fn key(stream: u64) -> String {
    format!("stream_{stream}")
}

/// How many partitions the topic has.
async fn partitions(bus: &dyn Bus) -> usize {
    join(bus, T, "counts_partitions", Start::Latest).await.1.len()
}

/// Appends one record to each stream.
async fn append_to_all(bus: &dyn Bus, n: u64) {
    bus.append(T, (0..STREAMS).map(|stream| record(T, &key(stream), n)).collect()).await.unwrap();
}

/// Whether each stream was handled up to this number.
fn all_handled(events: &[Event], last: u64) -> bool {
    let highest = highest(events);
    highest.len() as u64 == STREAMS && highest.values().all(|n| *n >= last)
}

pub async fn members_share_or_read_everything<H: Home>(home: &H) {
    let bus: SharedBus = home.open().await;
    if !H::SHARES {
        let mut one = subscribe(&*bus, T, "g", Start::Acknowledged).await;
        let mut other = subscribe(&*bus, T, "g", Start::Acknowledged).await;
        append(&*bus, "a", 0..10).await;
        assert_eq!(take(&mut one, 10).await, take(&mut other, 10).await);
        return;
    }
    let partitions = partitions(&*bus).await;
    assert!(partitions > 1, "the suite wants a topic of more than one partition");
    let ledger = Ledger::default();
    let a = Member::join(bus.clone(), "a", Start::Acknowledged, ledger.clone());
    ledger.shared_by(&["a"], partitions).await;
    let b = Member::join(home.open_beside().await, "b", Start::Acknowledged, ledger.clone());
    ledger.shared_by(&["a", "b"], partitions).await;
    for n in 0..5 {
        append_to_all(&*bus, n).await;
    }
    ledger.until("everything is handled", |events| all_handled(events, 4)).await;
    let events = ledger.events();
    check(&events);
    let mut handled: HashMap<&str, BTreeSet<(String, u64)>> = HashMap::new();
    for event in &events {
        if let Event::Handled(member, received) = event {
            let new = handled.entry(member).or_default().insert((received.record.key.to_string(), number(received)));
            assert!(new, "{member} handled a record twice while nobody came or went");
        }
    }
    assert!(handled["a"].is_disjoint(&handled["b"]), "each record is handled by one of them");
    a.leave().await;
    b.leave().await;
}

pub async fn a_stream_stays_whole_while_members_come_and_go<H: Home>(home: &H) {
    if !H::SHARES {
        return;
    }
    let bus: SharedBus = home.open().await;
    let partitions = partitions(&*bus).await;
    let ledger = Ledger::default();
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (bus, over) = (bus.clone(), over.clone());
        async move {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                append_to_all(&*bus, n).await;
                n += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            n - 1
        }
    });
    // After each change something must be handled before the next.
    let goes_on = async |members: &[&'static str]| {
        ledger.shared_by(members, partitions).await;
        let before = highest(&ledger.events()).into_values().max().unwrap_or(0);
        ledger.until("it goes on", |events| all_handled(events, before + 3)).await;
    };
    let a = Member::join(bus.clone(), "a", Start::Acknowledged, ledger.clone());
    goes_on(&["a"]).await;
    let b = Member::join(home.open_beside().await, "b", Start::Acknowledged, ledger.clone());
    goes_on(&["a", "b"]).await;
    let c = Member::join(home.open_beside().await, "c", Start::Acknowledged, ledger.clone());
    goes_on(&["a", "b", "c"]).await;
    b.leave().await;
    goes_on(&["a", "c"]).await;
    a.leave().await;
    goes_on(&["c"]).await;
    over.store(true, Ordering::Relaxed);
    let last = writer.await.unwrap();
    ledger.until("everything is handled", |events| all_handled(events, last)).await;
    check(&ledger.events());
    c.leave().await;
}

pub async fn what_moves_to_another_begins_where_that_one_asks_to<H: Home>(home: &H) {
    if !H::SHARES {
        return;
    }
    let bus: SharedBus = home.open().await;
    let partitions = partitions(&*bus).await;
    let ledger = Ledger::default();
    for n in 0..3 {
        append_to_all(&*bus, n).await;
    }
    let a = Member::join(bus.clone(), "a", Start::Asked, ledger.clone());
    ledger.until("everything is handled", |events| all_handled(events, 2)).await;
    let b = Member::join(home.open_beside().await, "b", Start::Asked, ledger.clone());
    ledger.shared_by(&["a", "b"], partitions).await;
    append_to_all(&*bus, 3).await;
    ledger.until("what is new is handled", |events| all_handled(events, 3)).await;
    check(&ledger.events());
    // From the first record on, although all of it was acknowledged.
    let mut of_b: HashMap<String, Vec<u64>> = HashMap::new();
    for event in ledger.events() {
        if let Event::Handled("b", received) = event {
            of_b.entry(received.record.key.to_string()).or_default().push(number(&received));
        }
    }
    assert!(!of_b.is_empty() && of_b.values().all(|numbers| *numbers == [0, 1, 2, 3]), "{of_b:?}");
    a.leave().await;
    b.leave().await;
}
