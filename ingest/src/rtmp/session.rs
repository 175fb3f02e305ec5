//! What a peer's messages lead to: it connects, asks to publish, publishes (Adobe's RTMP specification 1.0,
//! sections 7.2 and 7.3).

use crest_core::crowd::Place;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

use super::APPLICATION;
use super::amf::Value;
use super::chunks::{self, Chunks};
use super::command::{Command, connected, info, status};
use super::connection::Ending;
use super::message::{
    ACKNOWLEDGEMENT, AUDIO, CHUNK_SIZE, COMMAND, COMMAND_AMF3, DATA, DATA_AMF3, Message, SET_PEER_BANDWIDTH,
    STREAM_BEGIN, USER_CONTROL, VIDEO, Violation, WINDOW, WINDOW_ACKNOWLEDGEMENT_SIZE,
};
use super::publisher::{Publisher, Unwanted};
use crate::config::RtmpConfig;
use crate::publish::Publishers;

/// Bytes that a peer may announce before it is known: commands are a few hundred.
pub(super) const STRANGER: usize = 64 * 1024;
/// What the commands of one connection may cost, each its length and something for being one.
const COMMANDS: usize = 1024 * 1024;
const COMMAND_COST: usize = 1024;
/// Chunk streams of what is said here.
const CONTROL: u8 = 2;
const ANSWERS: u8 = 3;

/// A peer, from its handshake on.
pub(super) struct Session {
    peer: SocketAddr,
    place: Place,
    publishers: Arc<dyn Publishers>,
    max_frame: usize,
    idle: Duration,
    /// When it is given up, should it say nothing more.
    deadline: watch::Sender<Instant>,
    pub(super) chunks: Chunks,
    connected: bool,
    /// Message streams that were made.
    streams: u32,
    /// The message stream that it publishes on.
    on: u32,
    pub(super) publisher: Option<Publisher>,
    /// What the commands so far have cost.
    commands: usize,
    /// Bytes after which the peer wants to hear of them; those since it did, and all, which wrap.
    window: u32,
    unacknowledged: u32,
    received: u32,
    /// What is to be sent.
    answers: Vec<u8>,
    chunk_size: usize,
}

impl Session {
    pub(super) fn new(
        peer: SocketAddr,
        place: Place,
        publishers: Arc<dyn Publishers>,
        config: &RtmpConfig,
        deadline: watch::Sender<Instant>,
    ) -> Self {
        Self {
            peer,
            place,
            publishers,
            max_frame: usize::try_from(config.max_frame.as_u64()).unwrap_or(usize::MAX),
            idle: config.idle.0,
            deadline,
            chunks: Chunks::new(STRANGER),
            connected: false,
            streams: 0,
            on: 0,
            publisher: None,
            commands: 0,
            window: WINDOW,
            unacknowledged: 0,
            received: 0,
            answers: Vec::new(),
            chunk_size: chunks::FIRST_CHUNK_SIZE,
        }
    }

    /// Returns when the feed does not want the publisher any more.
    pub(super) async fn unwanted(&self) {
        match &self.publisher {
            Some(publisher) => publisher.disconnect().cancelled_owned().await,
            None => std::future::pending().await,
        }
    }

    /// What is to be sent before anything else is read.
    pub(super) fn answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answers)
    }

    /// Takes note of bytes that were read.
    pub(super) fn received(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.received = self.received.wrapping_add(count);
        self.unacknowledged = self.unacknowledged.saturating_add(count);
        if self.unacknowledged >= self.window {
            self.unacknowledged = 0;
            self.control(&Message::control(ACKNOWLEDGEMENT, self.received.to_be_bytes().to_vec()));
        }
    }

    /// Takes the peer's next message; an error is how the connection ends.
    pub(super) async fn take(&mut self, message: Message) -> Result<(), Ending> {
        match message.kind {
            AUDIO | VIDEO | DATA | DATA_AMF3 => self.media(&message).await,
            COMMAND | COMMAND_AMF3 => {
                self.commands += COMMAND_COST + message.body.len();
                if self.commands > COMMANDS {
                    return Err(Violation::Commands.into());
                }
                let command = Command::read(&message)?;
                self.command(&command, message.stream).await
            }
            WINDOW_ACKNOWLEDGEMENT_SIZE => {
                self.window = message.number().ok_or(Violation::Malformed)?.max(1);
                Ok(())
            }
            USER_CONTROL => {
                if let Some(pong) = message.pong() {
                    self.control(&pong);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn media(&mut self, message: &Message) -> Result<(), Ending> {
        let Some(publisher) = &mut self.publisher else {
            // Some send metadata early.
            let early = matches!(message.kind, DATA | DATA_AMF3);
            return if early { Ok(()) } else { Err(Violation::NotPublishing.into()) };
        };
        let is_media = matches!(message.kind, AUDIO | VIDEO) && !message.body.is_empty();
        let heard = || self.deadline.send_if_modified(|deadline| is_media && later(deadline, self.idle));
        heard();
        publisher.take(message).await?;
        // Delivering may have waited for the feed; that was not the publisher's silence.
        heard();
        Ok(())
    }

    async fn command(&mut self, command: &Command, stream: u32) -> Result<(), Ending> {
        match command.name.as_str() {
            "connect" => self.connect(command),
            "createStream" if self.connected => {
                self.streams += 1;
                let made = Value::Number(f64::from(self.streams));
                self.say(0, &Command::new("_result", command.number, [Value::Null, made]));
                Ok(())
            }
            // Refused, it would end the connection without telling why: `publish` refuses.
            "FCPublish" => {
                self.say(0, &Command::new("onFCPublish", 0.0, [Value::Null]));
                Ok(())
            }
            "publish" if self.connected => {
                let key = command.needed(command.text(0))?.unwrap_or_default();
                self.publish(key, stream).await
            }
            "FCUnpublish" => {
                self.say(0, &Command::new("onFCUnpublish", 0.0, [Value::Null]));
                Ok(())
            }
            "deleteStream" => {
                if command.argument(0).is_some_and(|id| id == f64::from(self.on)) {
                    self.unpublish().await;
                }
                Ok(())
            }
            "closeStream" if stream == self.on => {
                self.unpublish().await;
                Ok(())
            }
            "play" | "play2" => {
                let reason = "this server takes streams and plays none";
                Err(self.refuse(stream, "NetStream.Play.Failed", reason))
            }
            "publish" | "createStream" => Err(Ending::broken("a command that comes before `connect`")),
            // `releaseStream`, `_checkbw` and the like expect no answer.
            _ => Ok(()),
        }
    }

    fn connect(&mut self, command: &Command) -> Result<(), Ending> {
        let app = command.values.first().and_then(|of| of.get("app")).and_then(Value::as_text);
        let app = command.needed(app)?.unwrap_or_default();
        // What follows a question mark is for servers that know it.
        let app = app.split('?').next().unwrap_or_default();
        if app.trim_matches('/') != APPLICATION {
            let reason = format!(
                "no such application; publish to rtmp://HOST/{APPLICATION} with the stream key as the stream's name"
            );
            let info = info("error", "NetConnection.Connect.Rejected", &reason);
            self.say(0, &Command::new("_error", command.number, [Value::Null, info]));
            return Err(Ending::refused(reason));
        }
        self.connected = true;
        self.control(&Message::control(WINDOW_ACKNOWLEDGEMENT_SIZE, WINDOW.to_be_bytes().to_vec()));
        /// The peer may do with it what it likes.
        const DYNAMIC: u8 = 2;
        let [a, b, c, d] = WINDOW.to_be_bytes();
        self.control(&Message::control(SET_PEER_BANDWIDTH, vec![a, b, c, d, DYNAMIC]));
        self.control(&chunks::set_chunk_size(CHUNK_SIZE));
        self.chunk_size = CHUNK_SIZE as usize;
        self.control(&Message::event(STREAM_BEGIN, [0; 4]));
        self.say(0, &connected(command.number));
        Ok(())
    }

    async fn publish(&mut self, key: &str, stream: u32) -> Result<(), Ending> {
        const REFUSED: &str = "NetStream.Publish.BadName";
        if self.publisher.is_some() {
            return Err(self.refuse(stream, REFUSED, "this connection publishes already"));
        }
        match Publisher::admit(key, self.peer, self.publishers.as_ref(), self.max_frame).await {
            Ok(publisher) => self.publisher = Some(publisher),
            Err(reason) => return Err(self.refuse(stream, REFUSED, &reason)),
        }
        self.on = stream;
        self.place.busy(true);
        self.chunks.allow(self.max_frame.saturating_mul(3).max(STRANGER));
        // From here on another limit holds, which may be the shorter one.
        self.deadline.send_replace(Instant::now() + self.idle);
        self.control(&Message::event(STREAM_BEGIN, stream.to_be_bytes()));
        self.say(stream, &status("status", "NetStream.Publish.Start", "The stream is published."));
        Ok(())
    }

    async fn unpublish(&mut self) {
        let Some(publisher) = self.publisher.take() else { return };
        publisher.close("the publisher stopped").await;
        self.place.busy(false);
        self.chunks.allow(STRANGER);
        self.deadline.send_replace(Instant::now() + self.idle);
    }

    /// Says that something is refused, and how the connection ends with that.
    fn refuse(&mut self, stream: u32, code: &str, reason: &str) -> Ending {
        self.say(stream, &status("error", code, reason));
        Ending::refused(reason)
    }

    fn say(&mut self, stream: u32, command: &Command) {
        chunks::write(&command.message(stream), ANSWERS, self.chunk_size, &mut self.answers);
    }

    fn control(&mut self, message: &Message) {
        chunks::write(message, CONTROL, self.chunk_size, &mut self.answers);
    }
}

/// Moves the deadline. Later is noticed when it passes, so that not every message wakes somebody.
fn later(deadline: &mut Instant, idle: Duration) -> bool {
    *deadline = Instant::now() + idle;
    false
}

impl From<Unwanted> for Ending {
    fn from(unwanted: Unwanted) -> Self {
        match unwanted {
            Unwanted::Over => Self::refused("disconnected"),
            Unwanted::Flood => Self::new(
                Some("flood"),
                "it sends more than twice what limits.feed_bits_per_second allows, what is not taken included",
            ),
            Unwanted::Erratic => {
                Self::new(Some("configurations"), "the publisher's configuration changes all the time")
            }
        }
    }
}
