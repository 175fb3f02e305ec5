//! One connection to Twitch's chat: it logs in without an account, joins the channels of its group, and comes back
//! when it is lost.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::time::{Instant, MissedTickBehavior};

use super::joins::Joins;
use super::line::{self, Line};
use super::lines::Lines;
use super::{Group, PLATFORM, Twitch};
use crate::chat::follower::left_out;
use crate::chat::heard::{Heard, State, now};
use crate::dial::Socket;
use crate::pause::Pause;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(500);
/// A connection that held for so long was a good one: pauses begin anew after it.
const GOOD: Duration = Duration::from_secs(30);

/// One connection and its channels.
pub(super) struct Connection {
    twitch: Arc<Twitch>,
    group: Arc<Group>,
}

impl Connection {
    pub(super) fn new(twitch: Arc<Twitch>, group: Arc<Group>) -> Self {
        Self { twitch, group }
    }

    /// Runs until nobody follows its channels, or the process stops.
    pub(super) async fn run(self) {
        let shutdown = self.twitch.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&self) {
        let mut pause = Pause::up_to(self.twitch.config.longest_pause.0);
        while !self.twitch.is_over(&self.group) {
            let began = Instant::now();
            let Err(error) = self.hold().await else { continue };
            if began.elapsed() >= GOOD {
                pause.reset();
            }
            let wait = pause.next();
            tracing::warn!(%error, again_in_ms = wait.as_millis() as u64, "the connection to Twitch's chat is lost");
            metrics::counter!("crest_chat_reconnects_total", "platform" => PLATFORM).increment(1);
            self.group.tell(None, Heard::State(State::Waiting(format!("no connection to Twitch: {error}")))).await;
            let again = tokio::time::sleep(wait);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    () = self.group.changed.notified() => if self.group.members().is_empty() {
                        break;
                    },
                }
            }
        }
    }

    /// Connects and follows the channels; returns when there are none any more.
    async fn hold(&self) -> io::Result<()> {
        let config = &self.twitch.config;
        let socket = within(config.timeout.0, self.twitch.server.connect()).await?;
        let (reader, writer) = tokio::io::split(socket);
        let mut session = Session {
            twitch: &self.twitch,
            group: &self.group,
            lines: Lines::new(BufReader::new(reader), config.line_bytes),
            writer,
            joins: Joins::new(config.refused.0),
            welcome: false,
            heard: Instant::now(),
            asked: false,
        };
        session.run().await
    }
}

/// A connection that stands.
struct Session<'a> {
    twitch: &'a Twitch,
    group: &'a Group,
    lines: Lines<BufReader<ReadHalf<Box<dyn Socket>>>>,
    writer: WriteHalf<Box<dyn Socket>>,
    joins: Joins,
    welcome: bool,
    /// When the server said something last, and whether it was asked for a sign since.
    heard: Instant,
    asked: bool,
}

impl Session<'_> {
    async fn run(&mut self) -> io::Result<()> {
        // Anybody may read as `justinfan` and digits, without a password.
        let nick = format!("justinfan{}", fastrand::u32(10_000..99_999));
        self.send(&format!("CAP REQ :twitch.tv/tags twitch.tv/commands\r\nNICK {nick}\r\n")).await?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                line = self.lines.next() => match line {
                    Ok(Some(line)) => self.take(&line).await?,
                    Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
                    Ok(None) | Err(_) => return Err(io::Error::other("the server closed the connection")),
                },
                () = self.group.changed.notified() => {
                    if self.group.members().is_empty() {
                        return Ok(());
                    }
                    self.join().await?;
                }
                _ = ticks.tick() => {
                    self.join().await?;
                    self.look().await?;
                }
            }
        }
    }

    async fn take(&mut self, line: &str) -> io::Result<()> {
        self.asked = false;
        match line::read(line, now()) {
            Some(Line::Ping(with)) => self.send(&format!("PONG :{with}\r\n")).await?,
            Some(Line::Welcome) => {
                self.welcome = true;
                self.join().await?;
            }
            Some(Line::Reconnect) => return Err(io::Error::other("the server asks to connect again")),
            Some(Line::Joined(channel)) => {
                self.joins.joined(&channel);
                self.group.tell(Some(&channel), Heard::State(State::Following)).await;
            }
            Some(Line::Refused(channel, reason)) => {
                self.joins.refused(&channel, Instant::now());
                self.wait(&channel, format!("Twitch refuses the channel '{channel}': {reason}")).await;
            }
            Some(Line::Told(reason)) if !self.welcome => {
                return Err(io::Error::other(format!("the server does not take the login: {reason}")));
            }
            Some(Line::Heard(channel, heard)) => self.group.tell(Some(&channel), heard).await,
            Some(Line::Told(_) | Line::Other) => {}
            None if line.is_empty() => {}
            None => left_out(PLATFORM, "malformed"),
        }
        // Followers may have held it up; the server was not silent meanwhile.
        self.heard = Instant::now();
        Ok(())
    }

    /// Joins and leaves what is due.
    async fn join(&mut self) -> io::Result<()> {
        if !self.welcome {
            return Ok(());
        }
        let due = self.joins.due(&self.group.channels(), &self.twitch.pace, Instant::now());
        for channel in due.part {
            self.send(&format!("PART #{channel}\r\n")).await?;
        }
        for channel in due.join {
            self.send(&format!("JOIN #{channel}\r\n")).await?;
        }
        for channel in due.silent {
            self.wait(&channel, format!("Twitch does not answer for the channel '{channel}'; check its name")).await;
        }
        Ok(())
    }

    /// Whether the server is still there.
    async fn look(&mut self) -> io::Result<()> {
        let (silent, idle) = (self.heard.elapsed(), self.twitch.config.idle.0);
        if silent >= idle.saturating_mul(2) {
            return Err(io::Error::other(format!("the server was silent for {} s", silent.as_secs())));
        }
        if silent >= idle && !self.asked {
            self.asked = true;
            self.send("PING :crest\r\n").await?;
        }
        Ok(())
    }

    async fn wait(&self, channel: &str, reason: String) {
        self.group.tell(Some(channel), Heard::State(State::Waiting(reason))).await;
    }

    async fn send(&mut self, lines: &str) -> io::Result<()> {
        let sent = async {
            self.writer.write_all(lines.as_bytes()).await?;
            self.writer.flush().await
        };
        within(self.twitch.config.timeout.0, sent).await
    }
}

async fn within<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, what).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
    }
}
