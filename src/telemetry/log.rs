//! The way of a line from the place that says it to standard error.

use std::hash::{Hash, RandomState};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::cause::cause;
use super::line::Line;
use super::throttle::{Said, Throttle};
use crate::config::{LogConfig, LogFormat};

/// How often is looked for lines that were held back long enough.
const LOOK: Duration = Duration::from_millis(250);

/// The log of the program: throttles, formats and writes.
pub struct Log {
    throttle: Mutex<Throttle<Line>>,
    random: RandomState,
    format: LogFormat,
    colour: bool,
    write: Box<dyn Fn(&str) + Send + Sync>,
}

impl Log {
    /// A log that writes with `write`, which is given whole lines.
    pub fn new(config: &LogConfig, colour: bool, write: Box<dyn Fn(&str) + Send + Sync>) -> Arc<Self> {
        let throttle = Mutex::new(Throttle::new(config.causes));
        Arc::new(Self { throttle, random: RandomState::new(), format: config.format, colour, write })
    }

    /// To standard error. Lines that cannot be written are lost: there is nowhere to say so.
    pub fn to_stderr(config: &LogConfig) -> Arc<Self> {
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let write = |line: &str| drop(std::io::stderr().lock().write_all(line.as_bytes()));
        Self::new(config, colour, Box::new(write))
    }

    /// Writes a line, unless its cause had one within the last second. `place` is where in the
    /// program it comes from.
    pub fn take(&self, place: &impl Hash, line: Line) {
        // Nothing foreign runs under the lock: a panic there could not be logged.
        let cause = cause(&self.random, place, &line);
        let said = self.locked(|throttle| throttle.take(cause, line, Instant::now()));
        said.iter().for_each(|said| self.write(said));
    }

    /// Writes a line whatever came before.
    pub fn write_now(&self, line: Line) {
        self.write(&Said { line, repeated: 0 });
    }

    /// Writes everything that is held back; for the end of the program.
    pub fn flush(&self) {
        self.locked(Throttle::rest).iter().for_each(|said| self.write(said));
    }

    /// Writes what has been held back long enough, as long as somebody has the log.
    pub fn flush_in_background(self: &Arc<Self>) -> std::io::Result<()> {
        let log = Arc::downgrade(self);
        let look = move || {
            while let Some(log) = log.upgrade() {
                log.locked(|throttle| throttle.due(Instant::now())).iter().for_each(|said| log.write(said));
                drop(log);
                std::thread::sleep(LOOK);
            }
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(look).map(drop)
    }

    fn locked<T>(&self, with: impl FnOnce(&mut Throttle<Line>) -> T) -> T {
        with(&mut self.throttle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, said: &Said<Line>) {
        (self.write)(&said.line.render(said.repeated, self.format, self.colour));
    }
}

/// Hands events to the log. Spans are not shown: ids are fields of the events themselves.
pub struct ToLog(pub Arc<Log>);

impl<S: Subscriber> Layer<S> for ToLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Line::of(event);
        if line.level > tracing::Level::INFO {
            // Who asks for details wants them all.
            self.0.write_now(line);
        } else {
            self.0.take(&event.metadata().callsite(), line);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tracing_subscriber::layer::SubscriberExt;

    fn logged(config: &LogConfig, say: impl FnOnce(&Log)) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let write = move |line: &str| kept.lock().unwrap().push(line.to_owned());
        let log = Log::new(config, false, Box::new(write));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(ToLog(log.clone())), || say(&log));
        log.flush();
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn a_repeated_cause_is_counted_in_either_format_and_a_stream_does_not_hide_another() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let config = LogConfig { format, ..LogConfig::default() };
            let lines = logged(&config, |_| {
                for n in 0..500 {
                    for stream in ["s1", "s2"] {
                        tracing::warn!(stream_id = %stream, n, error = format!("failed after {n} ms"), "trouble");
                    }
                }
            });
            let of = |stream| lines.iter().filter(|line| line.contains(stream)).collect::<Vec<_>>();
            for stream in ["s1", "s2"] {
                let total: u64 = of(stream).iter().map(|line| 1 + repeated(line)).sum();
                assert_eq!(total, 500, "{lines:?}");
                assert!(of(stream).len() < 10, "{lines:?}");
            }
        }
    }

    fn repeated(line: &str) -> u64 {
        let json = serde_json::from_str::<Value>(line).ok().and_then(|json| json["repeated"].as_u64());
        let text = || line.trim_end().rsplit_once(" repeated=").and_then(|(_, count)| count.parse().ok());
        json.or_else(text).unwrap_or(0)
    }

    #[test]
    fn details_are_not_throttled() {
        let lines = logged(&LogConfig::default(), |_| (0..500).for_each(|_| tracing::debug!("a detail")));
        assert_eq!(lines.len(), 500);
    }

    #[test]
    fn what_was_held_back_is_written_without_anything_else_happening() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let log = Log::new(&LogConfig::default(), false, Box::new(move |line| sender.send(line.to_owned()).unwrap()));
        log.flush_in_background().unwrap();
        for _ in 0..5 {
            log.take(&"here", Line::new(tracing::Level::WARN, "t", "m"));
        }
        let line = || receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(!line().contains("repeated"));
        assert!(line().ends_with("m repeated=3\n"));
    }
}
