//! Stream keys are secrets, and the RTMP library likes to log them.

use crest_core::stream::{SourceKind, StreamState};
use std::fmt::Write;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Rig, Settings, created, outcome, publisher, stream};

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

/// What WHIP answers to an offer that is none, with the stream key in the address and as a token.
async fn offered(rig: &Rig, key: &str) -> [String; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = rig.ingest().routes();
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut answers = [format!("/{key} HTTP/1.1\r\n"), format!(" HTTP/1.1\r\nAuthorization: Bearer {key}\r\n")];
    for request in &mut answers {
        let rest = "Host: here\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nhello";
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(format!("POST /whip{request}{rest}").as_bytes()).await.unwrap();
        request.clear();
        connection.read_to_string(request).await.unwrap();
    }
    serving.abort();
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stream_key_reaches_the_log_at_any_level() {
    tracing::subscriber::set_global_default(Recorder).unwrap();
    let mut feed = created("str_log");
    feed.stream_key = "sesame".to_owned();
    let mut browser = stream("str_whip", SourceKind::Whip, StreamState::Created);
    browser.stream_key = "open-sesame".to_owned();
    let mut rig = Rig::start(Settings::default(), vec![feed, browser]).await;
    for (key, statuses) in [("open-sesame", ["400", "409"]), ("sesame-street", ["401", "401"])] {
        for answer in offered(&rig, key).await {
            // The second one may come before the first has let go of the stream.
            let status = answer.split(' ').nth(1).unwrap();
            assert!(statuses.contains(&status), "{answer}");
        }
    }
    assert!(outcome(publisher(&rig.url("sesame"), 1, &[])).await.0);
    rig.until_event("stream.interrupted", 1).await;
    assert!(!outcome(publisher(&rig.url("sesame-street"), 1, &[])).await.0);
    rig.stop().await;
    let log = LOG.lock().unwrap();
    for needle in
        ["a publisher is connected", "an RTMP publisher was refused", "a WebRTC publisher was refused", "media arrives"]
    {
        assert!(log.contains(needle), "{needle}");
    }
    assert!(!log.contains("sesame"), "{}", log.lines().find(|line| line.contains("sesame")).unwrap_or_default());
}
