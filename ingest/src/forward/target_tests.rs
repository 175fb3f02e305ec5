//! A server's task against real sockets.

use super::*;
use crate::pull::{Allowed, PullConfig};
use bytes::Bytes;
use crest_core::stream::{ForwardState, ForwardStatus, ForwardTarget};
use crest_core::units::Span;
use crest_core::{StreamId, WallTime};
use futures::FutureExt;
use rustls::RootCertStore;
use rustls::crypto::ring;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::super::queue::Queue;
use super::super::wire::{Reader, Writer};
use crate::rtmp::amf::Value;
use crate::rtmp::command::Command;
use crate::rtmp::handshake;
use crate::rtmp::message::{COMMAND, Message, VIDEO};

const QUEUE_BYTES: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(20);
/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);
/// Until a server is given up, where it is to be.
const BRIEF: Duration = Duration::from_secs(3);

fn config(pause: Duration, timeout: Duration) -> ForwardConfig {
    ForwardConfig { pause: Span(pause), timeout: Span(timeout), ..ForwardConfig::default() }
}

/// A target at this address, whose task runs.
fn target(url: &str, allow_private: bool, timeout: Duration) -> Arc<Line> {
    let config = config(Duration::from_millis(50), timeout);
    publisher(url, allow_private, &Arc::new(Pauses::new(&config)), config)
}

/// The same for a further publisher.
fn publisher(url: &str, allow_private: bool, pauses: &Arc<Pauses>, config: ForwardConfig) -> Arc<Line> {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let allowed = Allowed::new(&PullConfig { allow_private, ..PullConfig::default() }).unwrap();
    let line = Arc::new(Line::new(Queue::new(QUEUE_BYTES, i32::MAX), WallTime(0)));
    let server = ForwardTarget { url: url.to_owned(), stream_key: Some("a_key".to_owned()) };
    let target = Target {
        way: Way { stream: StreamId::from_raw("str_a"), server },
        line: Arc::clone(&line),
        board: Arc::default(),
        pauses: Arc::clone(pauses),
        config,
        door: Door { allowed, tls: Arc::new(tls) },
    };
    tokio::spawn(target.run());
    // Nobody is connected to before the publisher has sent something; this cannot be decoded and goes nowhere.
    line.push(Tag { kind: VIDEO, timestamp: 0, body: Bytes::from_static(&[0x27, 1, 0, 0, 0]) });
    line
}

async fn until(line: &Line, state: ForwardState) -> ForwardStatus {
    let reached = async {
        loop {
            let status = line.status();
            if status.state == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("not {state:?} but {:?}", line.status()))
}

struct Peer {
    reader: Reader<tokio::net::tcp::OwnedReadHalf>,
    writer: Writer<tokio::net::tcp::OwnedWriteHalf>,
}

impl Peer {
    /// A server's part of the handshake.
    async fn accept(listener: &TcpListener) -> Self {
        let (mut socket, _) = listener.accept().await.unwrap();
        handshake::accept(&mut socket).await.unwrap().unwrap();
        let (from, to) = TcpStream::into_split(socket);
        Self { reader: Reader::new(from), writer: Writer::new(to) }
    }

    /// Waits for a command of this name.
    async fn asked(&mut self, name: &str) -> Command {
        loop {
            let message = self.reader.next().await.unwrap();
            if message.kind == COMMAND
                && let Some(command) = Command::read(&message).ok().filter(|command| command.name == name)
            {
                return command;
            }
        }
    }

    async fn say(&mut self, name: &str, number: f64, values: Vec<Value>) {
        self.writer.write(&Command::new(name, number, values).message(0)).await.unwrap();
        self.writer.to.flush().await.unwrap();
    }

    async fn status(&mut self, level: &str, code: &str, description: &str) {
        let info = [("level", level), ("code", code), ("description", description)];
        let info = info.map(|(name, value)| (name.to_owned(), Value::text(value)));
        self.say("onStatus", 0.0, vec![Value::Null, Value::Object(info.into())]).await;
    }

    /// Takes the feed.
    async fn take(&mut self) {
        let connect = self.asked("connect").await;
        assert_eq!((connect.info("app"), connect.info("tcUrl").split('/').next()), ("app?a_token", Some("rtmp:")));
        self.say("_result", connect.number, vec![Value::Null, Value::Null]).await;
        let create = self.asked("createStream").await;
        self.say("_result", create.number, vec![Value::Null, Value::Number(1.0)]).await;
        let publish = self.asked("publish").await;
        assert_eq!(publish.values, [Value::Null, Value::text("a_key"), Value::text("live")]);
        self.status("status", "NetStream.Publish.Start", "it is taken").await;
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtmp://{}/app?a_token", listener.local_addr().unwrap());
    (listener, url)
}

fn keyframe(timestamp: u32, length: usize) -> Tag {
    let mut body = vec![0x17, 1];
    body.resize(length, 7);
    Tag { kind: VIDEO, timestamp, body: Bytes::from(body) }
}

#[tokio::test]
async fn messages_arrive_as_they_were_sent_beyond_24_bits_of_time_too() {
    let (listener, url) = listen().await;
    let line = target(&url, true, SOON);
    let mut peer = Peer::accept(&listener).await;
    peer.take().await;
    until(&line, ForwardState::Live).await;
    for (timestamp, length) in [(0, 10), (0xff_fffe, 9000), (0xff_ffff, 9000), (0x1234_5678, 4096), (u32::MAX, 8192)] {
        let tag = keyframe(timestamp, length);
        line.push(tag.clone());
        let came = peer.reader.next().await.unwrap();
        assert_eq!(came, Message { kind: VIDEO, stream: 1, timestamp, body: tag.body });
    }
    // A ping is answered while the feed goes on.
    peer.writer.write(&Message::control(4, vec![0, 6, 1, 2, 3, 4])).await.unwrap();
    assert_eq!(peer.reader.next().await.unwrap(), Message::control(4, vec![0, 7, 1, 2, 3, 4]));
    // What waits when the publisher leaves is sent, and then the farewell.
    line.push(keyframe(5, 10));
    line.over.cancel();
    assert_eq!(peer.reader.next().await.unwrap().kind, VIDEO);
    peer.asked("FCUnpublish").await;
    peer.asked("deleteStream").await;
    assert!(peer.reader.next().await.is_err(), "the connection is closed");
}

#[tokio::test]
async fn a_server_that_stops_reading_costs_no_more_than_its_queue_and_is_given_up() {
    let (listener, url) = listen().await;
    // Given up, it is not connected to again: what comes then waits for nobody.
    let config = ForwardConfig { max_pause: Span(NEVER), ..config(NEVER, BRIEF) };
    let line = publisher(&url, true, &Arc::new(Pauses::new(&config)), config);
    let mut peer = Peer::accept(&listener).await;
    peer.take().await;
    until(&line, ForwardState::Live).await;
    // More than the sockets' buffers take, ten times over.
    for n in 0..2000 {
        line.push(keyframe(n, 64 * 1024));
        tokio::task::yield_now().await;
        assert!(line.waiting() <= QUEUE_BYTES);
    }
    let status = until(&line, ForwardState::Waiting).await;
    assert!(status.reason.as_ref().is_some_and(|reason| reason.contains("took nothing")), "{status:?}");
    assert_eq!(line.waiting(), 0);
}

#[tokio::test]
async fn a_server_that_is_slow_is_kept_as_long_as_it_takes_anything() {
    let socket = TcpSocket::new_v4().unwrap();
    // What a slow line is: little is under way.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let limit = Duration::from_secs(2);
    let line = target(&format!("rtmp://{}/app?a_token", listener.local_addr().unwrap()), true, limit);
    let mut peer = Peer::accept(&listener).await;
    peer.take().await;
    until(&line, ForwardState::Live).await;
    // More than this system's own buffer takes, in one message: it is under way until the end.
    let length = QUEUE_BYTES - 1024;
    let mut sent = 0;
    let full = async {
        while line.waiting() == 0 {
            line.push(keyframe(sent, length));
            sent += 1;
            // Time to go out, if it can.
            tokio::time::sleep(limit / 4).await;
        }
    };
    tokio::time::timeout(SOON, full).await.unwrap();
    // It takes little, three times as long as it may take nothing: not as much as the message.
    let (mut socket, mut taken, mut buffer) = (peer.reader.into_inner(), 0, vec![0; 16 * 1024]);
    for _ in 0..30 {
        taken += socket.read(&mut buffer).await.unwrap();
        tokio::time::sleep(limit / 10).await;
    }
    assert!(taken < length, "{taken} bytes are more");
    let status = line.status();
    assert_eq!(status.state, ForwardState::Live, "{status:?}");
    // Then it takes nothing.
    let status = until(&line, ForwardState::Waiting).await;
    assert!(status.reason.as_ref().is_some_and(|reason| reason.contains("took nothing")), "{status:?}");
}

#[tokio::test]
async fn an_encoder_that_comes_back_all_the_time_does_not_have_its_server_asked_as_often() {
    let (listener, url) = listen().await;
    let config = ForwardConfig { max_pause: Span(NEVER), ..config(NEVER, SOON) };
    let pauses = Arc::new(Pauses::new(&config));
    let comes = || publisher(&url, true, &pauses, config.clone());
    let first = comes();
    let mut peer = Peer::accept(&listener).await;
    peer.take().await;
    until(&first, ForwardState::Live).await;
    first.over.cancel();
    peer.asked("deleteStream").await;
    for _ in 0..5 {
        let next = comes();
        let status = until(&next, ForwardState::Waiting).await;
        assert_eq!(status.reason.as_deref(), Some("it was connected to a moment ago"));
        next.over.cancel();
    }
    assert!(listener.accept().now_or_never().is_none(), "it was asked again");
    // One that failed is not asked again either, and the next publisher is told why.
    let (listener, url) = listen().await;
    let comes = || publisher(&url, true, &pauses, config.clone());
    let first = comes();
    drop(Peer::accept(&listener).await);
    let failed = until(&first, ForwardState::Waiting).await.reason;
    first.over.cancel();
    assert_eq!(until(&comes(), ForwardState::Waiting).await.reason, failed);
    assert!(listener.accept().now_or_never().is_none(), "it was asked again");
}

#[tokio::test]
async fn a_feed_that_comes_back_after_a_long_time_is_relayed_at_once() {
    let (listener, url) = listen().await;
    // It would be a long pause, and any time is a long one.
    let config = ForwardConfig { max_pause: Span(Duration::ZERO), ..config(NEVER, SOON) };
    let pauses = Arc::new(Pauses::new(&ForwardConfig { max_pause: Span(NEVER), ..config.clone() }));
    for _ in 0..3 {
        let line = publisher(&url, true, &pauses, config.clone());
        let mut peer = tokio::time::timeout(SOON, Peer::accept(&listener)).await.unwrap();
        peer.take().await;
        until(&line, ForwardState::Live).await;
        line.over.cancel();
        while peer.reader.next().await.is_ok() {}
        // It has taken note of that.
        while Arc::strong_count(&line) > 1 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_refusal_is_told_without_secrets_and_the_server_is_asked_again() {
    let (listener, url) = listen().await;
    let line = target(&url, true, SOON);
    let mut peer = Peer::accept(&listener).await;
    let connect = peer.asked("connect").await;
    peer.say("_result", connect.number, vec![Value::Null, Value::Null]).await;
    // It does not know this command, which nobody needs.
    let release = peer.asked("releaseStream").await;
    peer.say("_error", release.number, vec![Value::Null, Value::Null]).await;
    let create = peer.asked("createStream").await;
    peer.say("_result", create.number, vec![Value::Null, Value::Number(1.0)]).await;
    peer.asked("publish").await;
    peer.status("error", "NetStream.Publish.BadName", "a_key is in use, said a_token").await;
    let status = until(&line, ForwardState::Waiting).await;
    let expected = "the server refused: … is in use, said … (NetStream.Publish.BadName)";
    assert_eq!(status.reason.as_deref(), Some(expected));
    let mut peer = Peer::accept(&listener).await;
    peer.take().await;
    assert_eq!(until(&line, ForwardState::Live).await.reason, None);
}

#[tokio::test]
async fn private_addresses_and_peers_that_are_no_servers_are_refused_with_a_reason() {
    let (listener, url) = listen().await;
    let reason = async |url: &str, private: bool| {
        until(&target(url, private, BRIEF), ForwardState::Waiting).await.reason.unwrap_or_default()
    };
    let refused = reason(&url, false).await;
    assert!(refused.contains("pull.allow"), "{refused}");
    // Nobody was knocked at.
    assert!(tokio::time::timeout(Duration::from_millis(200), listener.accept()).await.is_err());
    assert!(reason("rtmp://localhost:1/app", false).await.contains("pull.allow"), "names are checked too");
    let web = async {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(&[b'H'; 8000]).await;
        }
    };
    let other = tokio::select! {
        () = web => String::new(),
        reason = reason(&url, true) => reason,
    };
    assert!(other.contains("not RTMP"), "{other}");
    let secure = url.replace("rtmp://", "rtmps://");
    let plain = async {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(&[3; 8000]).await;
        }
    };
    let other = tokio::select! {
        () = plain => String::new(),
        reason = reason(&secure, true) => reason,
    };
    assert!(other.contains("TLS handshake"), "{other}");
}
