//! Panics as lines of the log: they are defects, and who collects logs must see them.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use tracing::Level;

use super::line::Line;
use super::log::Log;

/// Sends panics of all threads to the log, whatever `log.level` says, throttled like all else. With
/// `RUST_BACKTRACE` set they carry their backtrace.
pub fn log_panics(log: Arc<Log>) {
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|at| (at.file().to_owned(), at.line()));
        log.take(&place, line(panic));
    }));
}

fn line(panic: &PanicHookInfo<'_>) -> Line {
    let thread = std::thread::current();
    let location = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("something that is no text");
    let line = Line::new(Level::ERROR, "crest::panic", format_args!("a panic: {message}"))
        .with("location", location)
        .with("thread", thread.name().unwrap_or("unnamed"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured { line.with("backtrace", backtrace) } else { line }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{LogConfig, LogFormat};

    #[test]
    fn a_panic_is_one_line_that_names_its_place_and_no_secret() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let config = LogConfig { format: LogFormat::Json, ..LogConfig::default() };
        log_panics(Log::new(&config, false, Box::new(move |line| sender.send(line.to_owned()).unwrap())));
        let ended = std::thread::Builder::new().name("doomed".to_owned()).spawn(|| panic!("no crest_sk_abcdef\nhere"));
        assert!(ended.unwrap().join().is_err());
        drop(panic::take_hook());
        // Another test may have panicked meanwhile.
        let said: Vec<serde_json::Value> =
            receiver.try_iter().map(|line| serde_json::from_str(&line).unwrap()).collect();
        let ours = said.iter().find(|line| line["thread"] == "doomed").unwrap();
        assert_eq!(ours["message"], "a panic: no crest_sk_…\nhere");
        assert_eq!((&ours["level"], &ours["target"]), (&"ERROR".into(), &"crest::panic".into()));
        assert!(ours["location"].as_str().unwrap().contains("panics.rs:"), "{ours}");
    }
}
