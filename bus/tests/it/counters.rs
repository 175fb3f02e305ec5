//! Counts what the code under test counts, on this thread.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub struct Counters(Mutex<HashMap<Key, Arc<AtomicU64>>>);

impl Counters {
    /// The counter of that name with that label; 0 where nothing was counted.
    pub fn of(&self, name: &str, label: (&str, &str)) -> u64 {
        let all = self.0.lock().unwrap();
        let wanted = |key: &&Key| key.name() == name && key.labels().any(|l| (l.key(), l.value()) == label);
        all.keys().filter(wanted).map(|key| all[key].load(Ordering::Relaxed)).sum()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.0.lock().unwrap().entry(key.clone()).or_default().clone())
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
