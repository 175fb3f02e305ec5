//! One publisher's session, from the answer to its end. It outlives the request that made it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::media::{KeyframeRequestKind, MediaData, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Event, Input, Output, Rtc, RtcError};
use tokio_util::sync::CancellationToken;

use super::offer::Agreed;
use super::socket::{Datagram, Inbox, Route};
use super::tracks::{Erratic, Frame, Tracks};
use crate::config::WebRtcConfig;
use crate::publish::Publication;

/// The least time between two requests for a keyframe: publishers answer them with many bytes.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(500);
/// Bytes of pictures that never end which a session may bring in all: the library keeps their pieces.
const UNFINISHED: usize = 64 << 20;
/// Datagrams that say farewell: a few, of RTCP and DTLS.
const FAREWELL: usize = 16;

/// How a session ended.
pub(super) struct Ending {
    /// Its name in metrics; none where nothing was wrong.
    cause: Option<&'static str>,
    reason: String,
}

impl Ending {
    fn new(cause: Option<&'static str>, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }

    fn broken(error: &str0m::RtcError) -> Self {
        Self::new(Some("broken"), format!("the connection broke: {error}"))
    }
}

/// When a keyframe is asked for next.
struct Keyframes {
    mid: Option<Mid>,
    interval: Duration,
    /// The latest keyframe, or request for one.
    last: Instant,
    requested: Option<Instant>,
    wanted: bool,
    /// The next one may be damaged, and is not enough.
    spoiled: bool,
}

impl Keyframes {
    /// When one is due; a publisher that sends them often enough by itself is not asked.
    fn due(&self) -> Option<Instant> {
        self.mid?;
        let due = if self.wanted { self.last } else { self.last + self.interval };
        Some(self.requested.map_or(due, |requested| due.max(requested + KEYFRAME_PAUSE)))
    }

    fn arrived(&mut self, at: Instant) {
        self.last = self.last.max(at);
        self.wanted = std::mem::take(&mut self.spoiled);
    }

    fn ask(&mut self, now: Instant) {
        self.last = now;
        self.requested = Some(now);
        // What is lost again is asked for again.
        self.wanted = false;
    }
}

/// What the library says next.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Said {
    Output(Output),
    /// Packets of this track make no frame. They are gone, but for pieces of H.264 that the library puts in front of the
    /// next unit in pieces.
    NoFrame(Mid),
}

/// Asks the library what it has to say next.
///
/// # Errors
/// Where the session cannot go on.
pub(super) fn poll(rtc: &mut Rtc) -> Result<Said, RtcError> {
    match rtc.poll_output() {
        Ok(output) => Ok(Said::Output(output)),
        Err(RtcError::Packet(mid, _, error)) => {
            tracing::debug!(%error, "packets of a WebRTC publisher make no frame");
            Ok(Said::NoFrame(mid))
        }
        Err(error) => Err(error),
    }
}

/// A session that runs.
pub(super) struct Session {
    rtc: Rtc,
    route: Route,
    inbox: Inbox,
    /// Where the library is told that datagrams arrive: one address of each kind stands for all.
    local: Vec<SocketAddr>,
    publication: Publication,
    tracks: Tracks,
    keyframes: Keyframes,
    idle: Duration,
    /// The latest media; the beginning, before there is any.
    heard: Instant,
    /// Bytes that arrived since the latest frame, and of frames in which there was nothing.
    arrived: usize,
    unfinished: usize,
}

impl Session {
    pub(super) fn new(
        agreed: Agreed,
        (route, inbox): (Route, Inbox),
        local: Vec<SocketAddr>,
        publication: Publication,
        config: &WebRtcConfig,
    ) -> Self {
        let now = Instant::now();
        let keyframes = Keyframes {
            mid: agreed.video,
            interval: config.keyframe_interval.0.max(KEYFRAME_PAUSE),
            last: now,
            requested: None,
            wanted: false,
            spoiled: false,
        };
        let (tracks, idle) = (Tracks::new(now), config.idle.0);
        Self {
            rtc: agreed.rtc,
            route,
            inbox,
            local,
            publication,
            tracks,
            keyframes,
            idle,
            heard: now,
            arrived: 0,
            unfinished: 0,
        }
    }

    /// Runs until the publisher is gone or not wanted any more, or `over` is cancelled, which it is for sure then.
    pub(super) async fn run(mut self, over: CancellationToken, shutdown: CancellationToken) {
        let unwanted = self.publication.disconnect();
        let ending = tokio::select! {
            ending = self.drive() => ending,
            () = over.cancelled() => Ending::new(None, "the publisher stopped"),
            () = unwanted.cancelled() => Ending::new(None, "disconnected"),
            () = shutdown.cancelled() => Ending::new(None, "server stopped"),
        };
        over.cancel();
        self.say_farewell().await;
        if let Some(cause) = ending.cause {
            metrics::counter!("crest_webrtc_sessions_failed_total", "cause" => cause).increment(1);
        }
        tracing::debug!(stream_id = %self.publication.stream(), reason = ending.reason, "a WebRTC session is over");
        // Before the stream may be published again, which its publisher's next session waits for.
        drop(self.route);
        self.publication.close(ending.reason).await;
    }

    /// Feeds the library what arrives and when time has passed, one at a time, and does what it says in between,
    /// as it must be used.
    async fn drive(&mut self) -> Ending {
        loop {
            let timeout = match self.drain().await {
                Ok(timeout) => timeout,
                Err(ending) => return ending,
            };
            let due = self.keyframes.due();
            let silent = self.heard + self.idle;
            let until = due.map_or(timeout, |due| due.min(timeout)).min(silent);
            let datagram = tokio::select! {
                datagram = self.inbox.recv() => datagram,
                () = tokio::time::sleep_until(until.into()) => None,
            };
            let now = Instant::now();
            if datagram.is_none() && now >= silent {
                return Ending::new(Some("silent"), "nothing was received for too long");
            }
            if due.is_some_and(|due| due <= now) {
                self.ask_for_keyframe(now);
            }
            self.arrived += datagram.as_ref().map_or(0, |datagram| datagram.data.len());
            let taken = match &datagram {
                Some(datagram) => match self.receive(datagram) {
                    Some(input) => self.rtc.handle_input(input),
                    None => Ok(()),
                },
                None => self.rtc.handle_input(Input::Timeout(now)),
            };
            if let Err(error) = taken {
                return Ending::broken(&error);
            }
        }
    }

    /// Does what the library says, until it waits: for how long.
    async fn drain(&mut self) -> Result<Instant, Ending> {
        loop {
            let output = match poll(&mut self.rtc).map_err(|error| Ending::broken(&error))? {
                Said::Output(output) => output,
                Said::NoFrame(mid) => {
                    self.lost(mid);
                    self.keyframes.spoiled |= Some(mid) == self.keyframes.mid;
                    continue;
                }
            };
            match output {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(datagram) => self.route.send(&datagram.contents, datagram.destination).await,
                Output::Event(Event::MediaData(media)) => self.take(&media).await?,
                Output::Event(Event::Connected) => {
                    tracing::info!(stream_id = %self.publication.stream(), "a WebRTC publisher is connected");
                }
                Output::Event(Event::Closed) => return Err(Ending::new(None, "the publisher closed the connection")),
                Output::Event(_) => {}
            }
        }
    }

    fn receive<'a>(&self, datagram: &'a Datagram) -> Option<Input<'a>> {
        let source = datagram.source;
        let destination = *self.local.iter().find(|local| local.is_ipv4() == source.is_ipv4())?;
        let contents = datagram.data.as_ref().try_into().ok()?;
        let receive = Receive { proto: Protocol::Udp, source, destination, contents };
        Some(Input::Receive(datagram.arrival, receive))
    }

    async fn take(&mut self, media: &MediaData) -> Result<(), Ending> {
        let arrived = std::mem::take(&mut self.arrived);
        if media.data.is_empty() {
            self.unfinished += arrived;
            if self.unfinished > UNFINISHED {
                return Err(Ending::new(Some("unfinished"), "the publisher's pictures have no end"));
            }
        }
        let Some(frame) = Frame::new(media) else { return Ok(()) };
        let taken = self.tracks.take(&frame).map_err(|Erratic| {
            Ending::new(Some("configurations"), "the publisher's configuration changes all the time")
        })?;
        if !media.contiguous {
            self.lost(media.mid);
        }
        if taken.keyframe {
            self.keyframes.arrived(frame.arrival);
        } else if taken.lost {
            self.keyframes.wanted = true;
        }
        for event in taken.events.into_iter().flatten() {
            if !self.publication.deliver(event).await {
                return Err(Ending::new(None, "disconnected"));
            }
            // Delivering may have waited for the feed; that was not the publisher's silence.
            self.heard = Instant::now();
        }
        Ok(())
    }

    /// Frames of a track are missing; of the picture, what follows needs a keyframe.
    fn lost(&mut self, track: Mid) {
        if Some(track) == self.keyframes.mid {
            metrics::counter!("crest_webrtc_frames_lost_total").increment(1);
            self.keyframes.wanted = true;
        }
    }

    fn ask_for_keyframe(&mut self, now: Instant) {
        self.keyframes.ask(now);
        let Some(mid) = self.keyframes.mid else { return };
        // There is none before the first packet has arrived.
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    /// Tells the publisher, so that it need not find out.
    async fn say_farewell(&mut self) {
        if self.rtc.close().is_err() {
            return;
        }
        for _ in 0..FAREWELL {
            match poll(&mut self.rtc) {
                Ok(Said::Output(Output::Transmit(datagram))) => {
                    self.route.send(&datagram.contents, datagram.destination).await;
                }
                Ok(Said::Output(Output::Event(_)) | Said::NoFrame(_)) => {}
                Ok(Said::Output(Output::Timeout(_))) | Err(_) => return,
            }
        }
    }
}
