//! Counters that name a stream: there as long as it is.

use metrics::{Counter, Key};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The label that makes a series one of a stream.
const LABEL: &str = "stream";

/// The counters of streams, by stream.
#[derive(Default)]
pub struct StreamSeries {
    streams: Mutex<BTreeMap<String, OfStream>>,
}

#[derive(Default)]
struct OfStream {
    /// A few each: by cause.
    counters: Vec<(Key, Arc<AtomicU64>)>,
    /// When it was first found to be over.
    over: Option<Instant>,
}

impl StreamSeries {
    /// The counter of a key that names a stream; `None` for any other key.
    pub fn counter(&self, key: &Key) -> Option<Counter> {
        let stream = key.labels().find(|label| label.key() == LABEL)?.value();
        let mut streams = self.lock();
        let counters = &mut streams.entry(stream.to_owned()).or_default().counters;
        let value = match counters.iter().find(|(known, _)| known == key) {
            Some((_, value)) => Arc::clone(value),
            None => {
                let value = Arc::default();
                counters.push((key.clone(), Arc::clone(&value)));
                value
            }
        };
        Some(Counter::from_arc(value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Removes the series of streams that have been over for `keep`; a stream is over from the first
    /// sweep on that finds it so.
    pub fn sweep(&self, is_open: impl Fn(&str) -> bool, now: Instant, keep: Duration) {
        self.lock().retain(|stream, of_stream| {
            if is_open(stream) {
                of_stream.over = None;
                return true;
            }
            let over = *of_stream.over.get_or_insert(now);
            now.saturating_duration_since(over) < keep
        });
    }

    /// Appends all in the text format of Prometheus.
    pub fn render(&self, text: &mut String) {
        let streams = self.lock();
        let mut families: BTreeMap<&str, String> = BTreeMap::new();
        for (key, value) in streams.values().flat_map(|of_stream| &of_stream.counters) {
            let lines = families.entry(key.name()).or_default();
            let labels: Vec<String> =
                key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value()))).collect();
            let _ = writeln!(lines, "{}{{{}}} {}", key.name(), labels.join(","), value.load(Ordering::Relaxed));
        }
        for (name, lines) in families {
            let _ = write!(text, "# TYPE {name} counter\n{lines}\n");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OfStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A label's value as the text format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::Label;

    const KEEP: Duration = Duration::from_secs(60);

    fn key(stream: &str, cause: &'static str) -> Key {
        Key::from_parts("lost_total", vec![Label::new(LABEL, stream.to_owned()), Label::new("cause", cause)])
    }

    fn rendered(series: &StreamSeries) -> String {
        let mut text = String::new();
        series.render(&mut text);
        text
    }

    #[test]
    fn series_of_a_stream_that_is_over_go_and_the_rest_stay() {
        let series = StreamSeries::default();
        for (stream, cause, count) in [("str_a", "late", 2), ("str_b", "late", 1), ("str_a", "late", 3)] {
            series.counter(&key(stream, cause)).into_iter().for_each(|counter| counter.increment(count));
        }
        assert!(series.counter(&Key::from_name("decisions_total")).is_none());
        let of_a = "lost_total{stream=\"str_a\",cause=\"late\"} 5\n";
        let of_b = "lost_total{stream=\"str_b\",cause=\"late\"} 1\n";
        assert_eq!(rendered(&series), format!("# TYPE lost_total counter\n{of_a}{of_b}\n"));

        let now = Instant::now();
        series.sweep(|stream| stream == "str_a", now, KEEP);
        series.sweep(|stream| stream == "str_a", now + KEEP / 2, KEEP);
        assert!(rendered(&series).contains(of_b), "a monitor has not seen its last value yet");
        series.sweep(|stream| stream == "str_a", now + KEEP, KEEP);
        assert_eq!(rendered(&series), format!("# TYPE lost_total counter\n{of_a}\n"));
        series.sweep(|_| false, now + KEEP, KEEP);
        series.sweep(|_| false, now + KEEP * 2, KEEP);
        assert!(series.is_empty());
    }

    #[test]
    fn a_stream_that_comes_back_keeps_its_series() {
        let series = StreamSeries::default();
        series.counter(&key("str_a", "late")).into_iter().for_each(|counter| counter.increment(1));
        let now = Instant::now();
        series.sweep(|_| false, now, KEEP);
        series.sweep(|_| true, now + KEEP / 2, KEEP);
        series.sweep(|_| false, now + KEEP, KEEP);
        assert!(!series.is_empty(), "it has been over for a moment only");
    }
}
