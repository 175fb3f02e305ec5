//! Counts what the code under test counts, on this thread, and keeps its gauges.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub struct Counters {
    counters: Mutex<HashMap<Key, Arc<AtomicU64>>>,
    gauges: Mutex<HashMap<Key, Arc<AtomicU64>>>,
}

impl Counters {
    /// The counter of that name with that label; 0 where nothing was counted.
    pub fn of(&self, name: &str, label: (&str, &str)) -> u64 {
        let all = self.counters.lock().unwrap();
        let wanted = |key: &&Key| key.name() == name && key.labels().any(|l| (l.key(), l.value()) == label);
        all.keys().filter(wanted).map(|key| all[key].load(Ordering::Relaxed)).sum()
    }

    /// The gauge of that name with that label, or the first of that name where the label is empty.
    pub fn gauge(&self, name: &str, label: (&str, &str)) -> f64 {
        let all = self.gauges.lock().unwrap();
        let wanted = |key: &Key| {
            key.name() == name && (label.0.is_empty() || key.labels().any(|l| (l.key(), l.value()) == label))
        };
        let found = all.iter().find(|(key, _)| wanted(key));
        found.map_or(f64::NAN, |(_, bits)| f64::from_bits(bits.load(Ordering::Relaxed)))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.counters.lock().unwrap().entry(key.clone()).or_default().clone())
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.gauges.lock().unwrap().entry(key.clone()).or_default().clone())
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
