//! Stream keys are secrets, and the RTMP library likes to log them.

use std::fmt::Write;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Rig, Settings, created, outcome, publisher};

static LOG: Mutex<String> = Mutex::new(String::new());

struct Recorder;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        let mut log = LOG.lock().unwrap();
        log.push_str(&line.0);
        log.push('\n');
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stream_key_reaches_the_log_at_any_level() {
    tracing::subscriber::set_global_default(Recorder).unwrap();
    let mut stream = created("str_log");
    stream.stream_key = "sesame".to_owned();
    let mut rig = Rig::start(Settings::default(), vec![stream]).await;
    assert!(outcome(publisher(&rig.url("sesame"), 1, &[])).await.0);
    rig.until_event("stream.interrupted", 1).await;
    assert!(!outcome(publisher(&rig.url("sesame-street"), 1, &[])).await.0);
    rig.stop().await;
    let log = LOG.lock().unwrap();
    for needle in ["a publisher is connected", "an RTMP publisher was refused", "media arrives"] {
        assert!(log.contains(needle), "{needle}");
    }
    assert!(!log.contains("sesame"), "{}", log.lines().find(|line| line.contains("sesame")).unwrap_or_default());
}
