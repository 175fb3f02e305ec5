//! Logs and metrics of the program.
//!
//! A line's way: an event of `tracing` -> `line` (texts without secrets: `redact`) -> `cause` ->
//! `throttle` -> standard error. Panics, and what GLib and GStreamer say, take the same way.

mod cause;
mod line;
mod log;
mod panics;
mod prometheus;
mod redact;
mod stream_series;
mod throttle;

use anyhow::Context;
use std::sync::{Arc, OnceLock};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use prometheus::{Metrics, start_metrics};
pub use redact::hide;

use crate::config::{LogConfig, LogFormat};
use crate::usage::Usage;
use line::Line;
use log::{Log, ToLog};

/// Libraries that tell at `info` what is of no interest to who runs crest. Directives in `log.level`
/// come after these and win.
const QUIET: &str = "fjall=warn,lsm_tree=warn,object_store=warn";

/// The log, once it has started.
static LOG: OnceLock<(Arc<Log>, LogFormat)> = OnceLock::new();

/// Sends logs, panics and what GLib and GStreamer say to standard error as configured.
pub fn start_logs(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.level))
        .map_err(|e| Usage(format!("log.level '{}' is not a level or a list of directives: {e}", config.level)))?;
    let log = Log::to_stderr(config);
    tracing_subscriber::registry()
        .with(filter)
        .with(ToLog(Arc::clone(&log)))
        .try_init()
        .map_err(|e| anyhow::anyhow!("cannot start logging: {e}"))?;
    log.flush_in_background().context("cannot start the thread of the log")?;
    panics::log_panics(Arc::clone(&log));
    let _ = LOG.set((log, config.format));
    Ok(())
}

/// Says why the program fails, as its last words: in the log's format where that is not for people.
pub fn failed(error: &anyhow::Error) {
    let told = format!("{error:#}");
    match LOG.get() {
        Some((log, LogFormat::Json)) => log.write_now(Line::new(tracing::Level::ERROR, "crest", told)),
        _ => eprintln!("crest: {}", redact::redact(&told)),
    }
}

/// Writes what the log holds back; for the end of the program.
pub fn flush() {
    if let Some((log, _)) = LOG.get() {
        log.flush();
    }
}
