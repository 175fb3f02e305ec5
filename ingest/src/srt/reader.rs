//! A publisher's transport stream on its way to the feed, in a thread of its own: the library's way to wait is a call
//! that blocks. While the feed is busy nothing is read; what comes then is kept by the library up to its latency.

use bytes::Bytes;
use crest_core::codec::MediaEvent;
use crest_media::{Container, Demuxer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::socket::{LONGEST_MESSAGE, Received, Socket};
use crate::changes::Changes;
use crate::publish::Publication;

/// How often a publisher that sends nothing is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often what the library keeps after the end of a connection is looked at.
const LATE_LOOK: Duration = Duration::from_millis(10);

/// What the library keeps is due so much later where the handshake was slow.
const LATE_MARGIN: Duration = Duration::from_millis(300);
/// The publisher chooses the latency too, and one that comes back is not kept out for longer.
const LATEST: Duration = Duration::from_secs(10);

/// What reads.
pub(super) struct Reader {
    pub(super) socket: Arc<Socket>,
    pub(super) peer: SocketAddr,
    pub(super) publication: Publication,
    /// A publisher that sends no media for this long is gone.
    pub(super) idle: Duration,
    pub(super) runtime: tokio::runtime::Handle,
}

/// How a connection ended.
pub(super) struct Ending {
    /// Its name in metrics; none where nothing was wrong.
    pub(super) cause: Option<&'static str>,
    pub(super) reason: String,
}

impl Ending {
    pub(super) fn new(cause: Option<&'static str>, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }
}

impl Reader {
    /// Reads until the end; gives the publication back, to say why.
    pub(super) fn run(self) -> (Publication, Ending) {
        let ending = self.read().unwrap_or_else(|ending| ending);
        self.socket.close();
        (self.publication, ending)
    }

    fn read(&self) -> Result<Ending, Ending> {
        let failed = |e: crest_core::Error| Ending::new(Some("broken"), e.message);
        let readiness = self.socket.readiness().map_err(failed)?;
        let mut demuxer = Demuxer::new(Container::MpegTs).map_err(failed)?;
        demuxer.choose_audio(self.publication.audio_track());
        let mut buffer = vec![0; LONGEST_MESSAGE];
        let (mut heard, mut bytes) = (Instant::now(), 0_u64);
        let mut changes = Changes::new(Instant::now());
        let mut gone = None;
        loop {
            match self.socket.receive(&mut buffer) {
                Received::Message(length) => {
                    bytes += length as u64;
                    let events = demuxer.push(Bytes::copy_from_slice(&buffer[..length])).map_err(failed)?;
                    self.tell(&mut demuxer);
                    if !events.is_empty() {
                        self.deliver(events, &mut changes)?;
                        // Delivering may have waited for the feed; that was not the publisher's silence.
                        heard = Instant::now();
                    }
                }
                Received::Nothing => readiness.wait(LOOK.min(self.idle)),
                // The library hands each message out when its time has come, and so it does after the connection.
                Received::Gone(_)
                    if self.socket.has_more()
                        && gone.get_or_insert_with(Instant::now).elapsed()
                            <= (self.socket.latency() + LATE_MARGIN).min(LATEST) =>
                {
                    std::thread::sleep(LATE_LOOK);
                }
                Received::Gone(reason) => {
                    let held = demuxer.finish().unwrap_or_default();
                    self.deliver(held, &mut changes)?;
                    return Ok(Ending::new(None, reason));
                }
            }
            if heard.elapsed() > self.idle {
                return Ok(if bytes == 0 {
                    Ending::new(Some("silent"), "nothing was received for too long")
                } else {
                    Ending::new(
                        Some("no_media"),
                        "no picture or sound that can be read was received for too long; send MPEG-TS with H.264, \
                         H.265 or AAC",
                    )
                });
            }
        }
    }

    fn deliver(&self, events: Vec<MediaEvent>, changes: &mut Changes) -> Result<(), Ending> {
        for event in events {
            let configures = matches!(event, MediaEvent::VideoConfig(_) | MediaEvent::AudioConfig(_));
            if configures && changes.too_many(Instant::now()) {
                return Err(Ending::new(Some("configurations"), "the publisher's configuration changes all the time"));
            }
            if !self.runtime.block_on(self.publication.deliver(event)) {
                return Err(Ending::new(None, "disconnected"));
            }
        }
        Ok(())
    }

    fn tell(&self, demuxer: &mut Demuxer) {
        for note in demuxer.notes() {
            let stream_id = self.publication.stream();
            tracing::warn!(peer = %self.peer, %stream_id, note, "an SRT publisher sends what cannot be used");
        }
    }
}
