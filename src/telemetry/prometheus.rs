//! What `/metrics` shows. Series of the whole program stay; those that name a stream go some time
//! after it is over, or a program that runs for long would show, and hold, one for each that ever was.

use anyhow::Context;
use crest_core::store::SharedStore;
use crest_core::stream::StreamState;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::stream_series::StreamSeries;

/// Bounds of the histograms of durations, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0];

/// The longest time between two rounds of upkeep. Until then what histograms are given is kept value
/// by value, whether or not anybody asks for `/metrics`.
const UPKEEP: Duration = Duration::from_secs(5);

/// The series of this process.
#[derive(Clone)]
pub struct Metrics {
    lasting: PrometheusHandle,
    of_streams: Arc<StreamSeries>,
}

/// Starts collecting metrics.
pub fn start_metrics() -> anyhow::Result<Metrics> {
    let lasting = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .context("cannot set histogram bounds")?
        .build_recorder();
    let metrics = Metrics { lasting: lasting.handle(), of_streams: Arc::default() };
    metrics::set_global_recorder(Both { lasting, of_streams: Arc::clone(&metrics.of_streams) })
        .map_err(|_| anyhow::anyhow!("cannot start the metrics recorder: there is one already"))?;
    Ok(metrics)
}

impl Metrics {
    /// Everything in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = self.lasting.render();
        self.of_streams.render(&mut text);
        text
    }

    /// Keeps the series small until shutdown. Those of a stream go when it has been over for `keep`:
    /// long enough for a monitor to see the last values.
    pub async fn keep_up(self, store: SharedStore, keep: Duration, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut rounds = tokio::time::interval(UPKEEP.min(keep).max(Duration::from_millis(100)));
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = rounds.tick() => {}
            }
            self.lasting.run_upkeep();
            if self.of_streams.is_empty() {
                continue;
            }
            match store.streams_in(&[StreamState::Live, StreamState::Interrupted]).await {
                Ok(open) => {
                    let open: BTreeSet<&str> = open.iter().map(|stream| stream.id.as_str()).collect();
                    self.of_streams.sweep(|stream| open.contains(stream), Instant::now(), keep);
                }
                Err(error) => tracing::warn!(%error, "series of streams that are over stay in /metrics"),
            }
        }
    }
}

/// Gives each series to the one that keeps it.
struct Both {
    lasting: PrometheusRecorder,
    of_streams: Arc<StreamSeries>,
}

impl Recorder for Both {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.lasting.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.lasting.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.lasting.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.of_streams.counter(key).unwrap_or_else(|| self.lasting.register_counter(key, metadata))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.lasting.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.lasting.register_histogram(key, metadata)
    }
}
