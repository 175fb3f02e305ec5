//! What the bus on Kafka counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crest_core::bus::Next;
use crest_core::topic::Topic;

use super::reader::{Shared, State};

/// How long an append took.
pub(crate) fn appended(topic: Topic, took: Duration) {
    metrics::histogram!("crest_bus_append_seconds", "topic" => topic.name()).record(took);
}

/// A member got partitions, or gave some up.
pub(crate) fn rebalanced(shared: &Shared) {
    let labels = labels(shared);
    metrics::counter!("crest_bus_rebalances_total", &labels).increment(1);
}

/// Records that are not kept any more and that the group had not come to.
pub(crate) fn missed(shared: &Shared, records: u64) {
    let labels = labels(shared);
    metrics::counter!("crest_bus_missed_records_total", &labels).increment(records);
}

/// What a subscription was handed.
pub(crate) fn told(shared: &Shared, next: &Next) {
    let Next::Records(records) = next else { return };
    let labels = labels(shared);
    let bytes: usize = records.iter().map(|received| received.record.payload.len()).sum();
    metrics::counter!("crest_bus_read_records_total", &labels).increment(records.len() as u64);
    metrics::counter!("crest_bus_read_bytes_total", &labels).increment(bytes as u64);
}

/// What a subscription holds, and how much of it was not handed out yet. (What is acknowledged may lie further
/// back: fusion acknowledges what is in a snapshot.) Gauges of several subscriptions of one group
/// add up.
pub(crate) fn held(shared: &Shared, state: &State) {
    let lag = state.partitions.values().map(|held| held.end.saturating_sub(held.handed())).sum();
    gauge(shared, "crest_bus_partitions", &shared.told_partitions, state.partitions.len() as u64);
    gauge(shared, "crest_bus_lag_records", &shared.told_lag, lag);
}

/// The subscription is over.
pub(crate) fn over(shared: &Shared) {
    gauge(shared, "crest_bus_partitions", &shared.told_partitions, 0);
    gauge(shared, "crest_bus_lag_records", &shared.told_lag, 0);
}

fn gauge(shared: &Shared, name: &'static str, before: &AtomicU64, now: u64) {
    let before = before.swap(now, Ordering::Relaxed);
    let labels = labels(shared);
    let gauge = metrics::gauge!(name, &labels);
    if now >= before {
        gauge.increment((now - before) as f64);
    } else {
        gauge.decrement((before - now) as f64);
    }
}

fn labels(shared: &Shared) -> [(&'static str, String); 2] {
    [("topic", shared.topic.name().to_owned()), ("group", shared.group.clone())]
}
