//! A publisher over real sockets, made of the same library. (The whole system is tested with a real browser.)

#![allow(clippy::unwrap_used)]

use super::*;
use async_trait::async_trait;
use crest_core::StreamId;
use crest_core::codec::{AudioCodec, MediaEvent, VideoCodec};
use crest_core::stream::SourceKind;
use crest_core::units::Span;
use std::time::{Duration, Instant};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, Frequency, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use crate::limits::{Ledger, LimitsConfig};
use crate::publish::{Delivery, Publication, Refusal, Source, publication};

const SOON: Duration = Duration::from_secs(20);
const FRAME: Duration = Duration::from_millis(20);

/// Lets everybody in.
struct Open(mpsc::UnboundedSender<Source>);

#[async_trait]
impl Publishers for Open {
    async fn admit(&self, _: &str, _: SourceKind) -> Result<Publication, Refusal> {
        let permit = Ledger::new(LimitsConfig::default()).admit(None).unwrap();
        let (publication, source) = publication(StreamId::from_raw("str_a"), permit, None);
        self.0.send(source).unwrap();
        Ok(publication)
    }
}

/// A server, and the feeds it delivers to.
struct Server {
    http: SocketAddr,
    sources: mpsc::UnboundedReceiver<Source>,
    shutdown: CancellationToken,
}

impl Server {
    async fn start() -> Self {
        let config = WebRtcConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            keyframe_interval: Span(Duration::from_millis(500)),
            ..WebRtcConfig::default()
        };
        let (sender, sources) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let server = WhipServer::bind(config).await.unwrap();
        let routes = server.serve(Arc::new(Open(sender)), TaskTracker::new(), shutdown.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { http, sources, shutdown }
    }

    /// An answer's head and body.
    async fn ask(&self, request: &str, body: &str) -> (String, String) {
        let mut connection = TcpStream::connect(self.http).await.unwrap();
        let head = "Host: here\r\nAuthorization: Bearer key\r\nContent-Type: application/sdp\r\nConnection: close";
        let text = format!("{request} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        connection.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

/// What publishes a picture and sound.
struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    tracks: [Mid; 2],
    session: String,
    connected: bool,
    closed: bool,
    /// Of so many packets of media, one is lost on the way; 0: none.
    lost: u32,
    packets: u32,
    /// Keyframes that were asked for.
    requests: usize,
    frame: u64,
    next: Instant,
}

impl Peer {
    async fn publish(server: &Server) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let config =
            RtcConfig::new().set_crypto_provider(crypto).clear_codecs().enable_vp8(true).enable_opus(true, false);
        let mut rtc = config.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), "udp").unwrap());
        let mut change = rtc.sdp_api();
        let tracks = [MediaKind::Audio, MediaKind::Video]
            .map(|kind| change.add_media(kind, Direction::SendOnly, None, None, None));
        let (offer, pending): (_, SdpPendingOffer) = change.apply().unwrap();
        let (head, body) = server.ask("POST /whip", &offer.to_sdp_string()).await;
        assert!(head.starts_with("HTTP/1.1 201"), "{head} {body}");
        let session = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned();
        rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&body).unwrap()).unwrap();
        let next = Instant::now();
        Self {
            rtc,
            socket,
            tracks,
            session,
            connected: false,
            closed: false,
            lost: 0,
            packets: 0,
            requests: 0,
            frame: 0,
            next,
        }
    }

    /// The frames of either track: the first of the picture is a keyframe, and every 50th from there.
    fn frames(number: u64) -> [Vec<u8>; 2] {
        let keyframe = [0x10, 2, 0, 0x9d, 1, 0x2a, 160, 0, 90, 0];
        let between = [0x11; 10];
        // Several packets long.
        let picture =
            [if number.is_multiple_of(50) { keyframe } else { between }.to_vec(), vec![number as u8; 3000]].concat();
        [vec![0xfc, number as u8], picture]
    }

    /// Does what is next; `false` once the other side has said farewell.
    async fn step(&mut self) -> bool {
        let timeout = loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => break at,
                Output::Transmit(datagram) => {
                    let media = datagram.contents[0] >= 128;
                    self.packets += u32::from(media);
                    if !(media && self.packets.is_multiple_of(self.lost)) {
                        self.socket.send_to(&datagram.contents, datagram.destination).await.unwrap();
                    }
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::KeyframeRequest(_)) => self.requests += 1,
                Output::Event(Event::Closed) => self.closed = true,
                Output::Event(_) => {}
            }
        };
        if self.closed {
            return false;
        }
        let now = Instant::now();
        if self.connected && now >= self.next {
            self.send(now);
            return true;
        }
        let mut buffer = vec![0; 2048];
        let until = if self.connected { timeout.min(self.next) } else { timeout };
        let received = tokio::select! {
            received = self.socket.recv_from(&mut buffer) => Some(received.unwrap()),
            () = tokio::time::sleep_until(until.into()) => None,
        };
        let now = Instant::now();
        match received {
            Some((length, source)) => {
                let destination = self.socket.local_addr().unwrap();
                let contents = buffer[..length].try_into().unwrap();
                let receive = Receive { proto: Protocol::Udp, source, destination, contents };
                self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
            }
            None => self.rtc.handle_input(Input::Timeout(now)).unwrap(),
        }
        true
    }

    fn send(&mut self, now: Instant) {
        let frames = Self::frames(self.frame);
        let rates = [Frequency::FORTY_EIGHT_KHZ, Frequency::NINETY_KHZ];
        for ((mid, rate), data) in self.tracks.into_iter().zip(rates).zip(frames) {
            let time = MediaTime::new(self.frame * u64::from(rate.get()) / 50, rate);
            let writer = self.rtc.writer(mid).unwrap();
            let pt = writer.payload_params().next().unwrap().pt();
            writer.write(pt, now, time, data).unwrap();
        }
        self.frame += 1;
        self.next = now + FRAME;
    }
}

async fn media(source: &mut Source) -> MediaEvent {
    match source.next().await {
        Delivery::Media(event) => event,
        other => panic!("no media: {other:?}"),
    }
}

#[tokio::test]
async fn what_a_publisher_sends_arrives_whole_and_in_order() {
    let mut server = Server::start().await;
    let mut peer = Peer::publish(&server).await;
    let mut source = server.sources.recv().await.unwrap();
    let (mut sound, mut picture) = (Vec::new(), Vec::new());
    let enough = async {
        while picture.len() < 60 || sound.len() < 60 || peer.requests < 2 {
            let event = tokio::select! {
                event = media(&mut source) => event,
                alive = peer.step() => { assert!(alive); continue }
            };
            match event {
                MediaEvent::VideoConfig(config) => {
                    assert_eq!((config.codec, config.width, config.height), (VideoCodec::Vp8, 160, 90));
                    assert!(picture.is_empty(), "it comes first, and once");
                }
                MediaEvent::AudioConfig(config) => assert!(config.codec == AudioCodec::Opus && sound.is_empty()),
                MediaEvent::Video(packet) => picture.push(packet),
                MediaEvent::Audio(packet) => sound.push(packet),
            }
        }
    };
    tokio::time::timeout(SOON, enough).await.expect("media, and requests for keyframes");
    for (number, packet) in picture.iter().enumerate() {
        assert!(packet.data == Peer::frames(number as u64)[1], "picture {number}");
        assert_eq!(packet.keyframe, number.is_multiple_of(50));
    }
    // Sound may begin a little later.
    let first = u64::from(sound[0].data[1]);
    for (number, packet) in sound.iter().enumerate() {
        assert!(packet.data == Peer::frames(first + number as u64)[0], "sound {number}");
    }
    for two in picture.windows(2).chain(sound.windows(2)) {
        let step = (two[1].pts - two[0].pts).nanos() / 1_000_000;
        assert!((18..=22).contains(&step), "20 ms, put right by a twentieth at most: {step}");
    }
    let together = (picture[20].pts - sound[20 - first as usize].pts).nanos() / 1_000_000;
    assert!(together.abs() < 100, "what was sent together lies together: {together} ms");
    server.shutdown.cancel();
}

#[tokio::test]
async fn packets_that_are_lost_are_sent_again() {
    let mut server = Server::start().await;
    let mut peer = Peer::publish(&server).await;
    peer.lost = 23;
    let mut source = server.sources.recv().await.unwrap();
    let mut picture = Vec::new();
    let enough = async {
        while picture.len() < 100 {
            tokio::select! {
                event = media(&mut source) => if let MediaEvent::Video(packet) = event {
                    picture.push(packet);
                },
                alive = peer.step() => assert!(alive),
            }
        }
    };
    tokio::time::timeout(SOON, enough).await.expect("a picture");
    // The very first packets may be lost before there is anybody to miss them.
    let first = picture.iter().find(|packet| packet.keyframe).map(|packet| packet.data[10]).unwrap();
    for (number, packet) in picture.iter().enumerate() {
        assert!(packet.data == Peer::frames(u64::from(first) + number as u64)[1], "picture {number} from {first}");
    }
    assert!(peer.packets > 300, "of which a dozen were lost: {}", peer.packets);
    server.shutdown.cancel();
}

#[tokio::test]
async fn each_side_hears_when_the_other_leaves() {
    let mut server = Server::start().await;
    // The publisher leaves.
    let mut peer = Peer::publish(&server).await;
    let mut source = server.sources.recv().await.unwrap();
    while !peer.connected {
        assert!(tokio::time::timeout(SOON, peer.step()).await.unwrap());
    }
    peer.rtc.close().unwrap();
    while let Output::Transmit(datagram) = peer.rtc.poll_output().unwrap() {
        peer.socket.send_to(&datagram.contents, datagram.destination).await.unwrap();
    }
    let gone = tokio::time::timeout(SOON, source.next()).await.unwrap();
    assert!(matches!(&gone, Delivery::Gone(reason) if reason.contains("closed the connection")), "{gone:?}");

    // The feed is over: the publisher is told, and its session is no more.
    let mut peer = Peer::publish(&server).await;
    let source = server.sources.recv().await.unwrap();
    while !peer.connected {
        assert!(tokio::time::timeout(SOON, peer.step()).await.unwrap());
    }
    drop(source);
    tokio::time::timeout(SOON, async { while peer.step().await {} }).await.unwrap();
    let (head, _) = server.ask(&format!("DELETE {}", peer.session), "").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");

    // The publisher ends it as WHIP has it.
    let mut peer = Peer::publish(&server).await;
    let mut source = server.sources.recv().await.unwrap();
    while !peer.connected {
        assert!(tokio::time::timeout(SOON, peer.step()).await.unwrap());
    }
    let (head, _) = server.ask(&format!("DELETE {}", peer.session), "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    tokio::time::timeout(SOON, async { while peer.step().await {} }).await.unwrap();
    let gone = loop {
        match tokio::time::timeout(SOON, source.next()).await.unwrap() {
            Delivery::Media(_) | Delivery::Anchor(_) | Delivery::LeftOut(_) | Delivery::Over(..) => {}
            Delivery::Gone(reason) => break reason,
        }
    };
    assert_eq!(gone, "the publisher stopped");
    server.shutdown.cancel();
}
