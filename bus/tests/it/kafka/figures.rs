//! What the threads of the bus count, in this process.

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use crate::conformance::LIMIT;

#[derive(Default)]
struct Figures(Mutex<HashMap<Key, Arc<Figure>>>);

#[derive(Default)]
struct Figure(Mutex<f64>);

impl Figure {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut value = self.0.lock().unwrap();
        *value = change(*value);
    }
}

impl CounterFn for Figure {
    fn increment(&self, by: u64) {
        self.change(|value| value + by as f64);
    }
    fn absolute(&self, to: u64) {
        self.change(|_| to as f64);
    }
}

impl GaugeFn for Figure {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }
    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }
    fn set(&self, to: f64) {
        self.change(|_| to);
    }
}

/// How often something was recorded.
impl HistogramFn for Figure {
    fn record(&self, _: f64) {
        self.change(|value| value + 1.0);
    }
}

impl Figures {
    fn of(&self, key: &Key) -> Arc<Figure> {
        self.0.lock().unwrap().entry(key.clone()).or_default().clone()
    }
}

impl Recorder for Figures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}

fn figures() -> &'static Figures {
    static FIGURES: std::sync::LazyLock<Figures> = std::sync::LazyLock::new(Figures::default);
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| metrics::set_global_recorder(&*FIGURES).unwrap());
    &FIGURES
}

/// Counts from now on; to be called before anything is to be counted.
pub fn start() {
    figures();
}

/// A counter, gauge or histogram with all of these labels; 0 where there is none.
pub fn counter(name: &str, labels: &[(&str, &str)]) -> u64 {
    let all = figures().0.lock().unwrap();
    let has = |key: &Key, wanted: &(&str, &str)| key.labels().any(|label| (label.key(), label.value()) == *wanted);
    let wanted = all.iter().filter(|(key, _)| key.name() == name && labels.iter().all(|label| has(key, label)));
    wanted.map(|(_, figure)| *figure.0.lock().unwrap()).sum::<f64>() as u64
}

/// Waits until it holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
