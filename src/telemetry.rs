//! Logs and metrics of the program.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};
use crate::usage::Usage;

/// Bounds of the histograms of durations, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// Libraries that tell at `info` what is of no interest to who runs crest. Directives in `log.level`
/// come after these and win.
const QUIET: &str = "fjall=warn,lsm_tree=warn";

/// Sends logs to standard error as configured.
pub fn start_logs(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.level))
        .map_err(|e| Usage(format!("log.level '{}' is not a level or a list of directives: {e}", config.level)))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    let started = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("cannot start logging: {e}"))
}

/// Starts collecting metrics; the handle renders them for `/metrics`.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .context("cannot set histogram bounds")?
        .install_recorder()
        .context("cannot start the metrics recorder")
}
