//! The connection to EventSub: a session, its subscriptions, and what it tells (as documented at
//! dev.twitch.tv/docs/eventsub/handling-websocket-events).

use futures::StreamExt;
use futures::future::BoxFuture;
use reqwest::Url;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::EventSub;
use super::book::{Book, Done, News};
use super::config::TwitchApiConfig;
use super::helix::{Helix, Refusal};
use super::message::{Message, Says, Seen, read};
use crate::dial::{Socket, connect};
use crate::pause::Pause;
use crate::states::now;

/// After so long without a failure pauses begin anew.
const GOOD: Duration = Duration::from_secs(30);
/// What is granted beyond the silence that the server announces.
const GRACE: Duration = Duration::from_secs(3);

type WebSocket = WebSocketStream<Box<dyn Socket>>;

/// Keeps a connection as long as a channel that is waited for is subscribed to, or can be.
pub(super) struct Keeper {
    all: Arc<EventSub>,
    helix: Arc<Helix>,
}

/// Why a connection is given up.
enum Lost {
    /// The token is not taken.
    Token(String),
    Passing(String),
}

/// A session at the server.
struct Session {
    socket: WebSocket,
    id: Arc<str>,
    silence: Duration,
    /// When the server said something last.
    heard: Instant,
}

impl Keeper {
    pub(super) fn new(all: Arc<EventSub>, helix: Arc<Helix>) -> Self {
        Self { all, helix }
    }

    /// Runs until the process stops.
    pub(super) async fn run(self) {
        let shutdown = self.all.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&self) {
        let config = &self.all.config;
        let (mut book, mut pause) = (Book::new(config.refused.0), Pause::up_to(config.longest_pause.0));
        let mut looks = tokio::time::interval(config.look_again.0);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = None::<Instant>;
        loop {
            let mut held = self.ask(&mut book, &mut looks).await;
            let asked = held.is_ok();
            if asked {
                held = self.hold(&mut book, &mut looks).await;
                book.session_over(Instant::now());
                self.all.watched(None, false);
                metrics::gauge!("crest_twitch_connected").set(0.0);
            }
            let Err(lost) = held else { continue };
            // Nobody told what happened meanwhile, and what was being asked is not answered any more.
            book.look_at_all();
            let (cause, wait) = match lost {
                Lost::Token(reason) => {
                    tracing::error!(
                        reason,
                        "Twitch does not take twitch.token; make a new one: until then streams of its channels are tried with pauses"
                    );
                    ("token", config.refused.0)
                }
                Lost::Passing(reason) => {
                    if failed.is_some_and(|failed| failed.elapsed() >= GOOD) {
                        pause.reset();
                    }
                    let wait = pause.next();
                    let again_in_ms = wait.as_millis() as u64;
                    if asked {
                        tracing::warn!(reason, again_in_ms, "the connection to Twitch's EventSub is lost");
                    } else {
                        tracing::warn!(reason, again_in_ms, "Twitch's API cannot be asked about channels");
                    }
                    (if asked { "connection" } else { "api" }, wait)
                }
            };
            metrics::counter!("crest_twitch_reconnects_total", "cause" => cause).increment(1);
            tokio::time::sleep(wait).await;
            failed = Some(Instant::now());
        }
    }

    /// Asks what can be asked without a session; returns when there is something that takes one.
    async fn ask(&self, book: &mut Book, looks: &mut Interval) -> Result<(), Lost> {
        loop {
            match book.next(&self.all.wanted(), Instant::now()) {
                Some(task) if task.needs_session() => return Ok(()),
                Some(task) => {
                    let done = task.run(&self.helix, "").await;
                    self.learn(book, done)?;
                }
                None => tokio::select! {
                    () = self.all.changed.notified() => {}
                    () = until(book.again(Instant::now())) => {}
                    _ = looks.tick() => book.look_at_all(),
                },
            }
        }
    }

    /// Connects and hears what it is told; returns when nothing is subscribed to and nothing can be: Twitch closes a
    /// connection that is not used within ten seconds (4003).
    async fn hold(&self, book: &mut Book, looks: &mut Interval) -> Result<(), Lost> {
        let config = &self.all.config;
        let mut session = open(config, &self.all.url).await?;
        metrics::gauge!("crest_twitch_connected").set(1.0);
        let mut seen = Seen::default();
        let (mut task, mut moving) = (None::<BoxFuture<'_, Done>>, None::<BoxFuture<'_, Result<Session, Lost>>>);
        loop {
            let wanted = self.all.wanted();
            if wanted.is_empty() {
                return Ok(());
            }
            if task.is_none() {
                let id = Arc::clone(&session.id);
                let next = book.next(&wanted, Instant::now());
                task =
                    next.map(|next| Box::pin(async move { next.run(&self.helix, &id).await }) as BoxFuture<'_, Done>);
                if task.is_none() && !book.is_subscribed() {
                    return Ok(());
                }
            }
            let silent = session.heard + session.silence + GRACE;
            tokio::select! {
                message = session.next() => match message {
                    Ok(Some(message)) if seen.counts(&message, now()) => {
                        if let Some(url) = self.hear(message, book) {
                            moving = Some(Box::pin(self.reopen(url)));
                        }
                    }
                    Ok(_) => {}
                    // The server closes the old connection once it has welcomed the new one.
                    Err(lost) => match moving.take() {
                        Some(moving) => {
                            session = moving.await?;
                            book.look_at_all();
                        }
                        None => return Err(lost),
                    },
                },
                () = tokio::time::sleep_until(silent) => {
                    return Err(Lost::Passing(format!("the server was silent for {} s", session.silence.as_secs())));
                }
                done = pending_or(&mut task) => {
                    task = None;
                    self.learn(book, done)?;
                }
                moved = pending_or(&mut moving) => {
                    // The old connection stood until here; its subscriptions go over to this one.
                    moving = None;
                    session = moved?;
                    book.look_at_all();
                }
                () = self.all.changed.notified() => {}
                _ = looks.tick() => book.look_at_all(),
            }
        }
    }

    /// Does what a message says; returns the address to go over to, if it names one.
    fn hear(&self, message: Message, book: &mut Book) -> Option<String> {
        let (kind, user, live) = match message.says {
            Says::Online(user) => ("stream.online", user, true),
            Says::Offline(user) => ("stream.offline", user, false),
            Says::Reconnect(url) => return Some(url),
            Says::Revoked { subscription, status } => {
                tracing::warn!(status, "Twitch has ended a subscription of EventSub");
                metrics::counter!("crest_twitch_refusals_total").increment(1);
                if let Some(channel) = book.revoked(&subscription, Instant::now()) {
                    self.all.watched(Some(&channel), false);
                }
                return None;
            }
            Says::Welcome { .. } | Says::Keepalive | Says::Other => return None,
        };
        metrics::counter!("crest_twitch_notifications_total", "type" => kind).increment(1);
        if let Some(channel) = book.channel_of(&user) {
            tracing::info!(channel, live, "Twitch tells of a channel");
            self.all.note(channel, live, true);
        }
        None
    }

    fn learn(&self, book: &mut Book, done: Done) -> Result<(), Lost> {
        match book.learn(done, Instant::now()) {
            Ok(News::Looked(looked)) => looked.iter().for_each(|(channel, live)| self.all.note(channel, *live, false)),
            Ok(News::Watched(channel)) => self.all.watched(Some(&channel), true),
            Ok(News::None) => {}
            Err(Refusal::Token(reason)) => return Err(Lost::Token(reason)),
            Err(Refusal::Passing(reason) | Refusal::Full(reason) | Refusal::Wrong(reason)) => {
                return Err(Lost::Passing(reason));
            }
        }
        Ok(())
    }

    async fn reopen(&self, url: String) -> Result<Session, Lost> {
        // It is Twitch's word where to go, but not without TLS where there was some.
        let same = |url: &Url| url.scheme() == self.all.url.scheme();
        let url = Url::parse(&url).ok().filter(same);
        let url = url.ok_or_else(|| Lost::Passing("the server names no address to connect to again".to_owned()))?;
        open(&self.all.config, &url).await
    }
}

impl Session {
    /// The next message, if what arrived is one that is understood. Dropped and called again it goes on.
    async fn next(&mut self) -> Result<Option<Message>, Lost> {
        let frame = match self.socket.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Err(Lost::Passing(error.to_string())),
            None => return Err(Lost::Passing("the server closed the connection".to_owned())),
        };
        self.heard = Instant::now();
        match frame {
            Frame::Text(text) => Ok(read(&text)),
            Frame::Close(why) => {
                let why = why.map_or_else(String::new, |why| format!(": {} {}", u16::from(why.code), why.reason));
                Err(Lost::Passing(format!("the server closed the connection{why}")))
            }
            // Pings are answered below this.
            _ => Ok(None),
        }
    }
}

/// Connects, and waits for the welcome.
async fn open(config: &TwitchApiConfig, url: &Url) -> Result<Session, Lost> {
    let most = usize::try_from(config.message.as_u64()).unwrap_or(usize::MAX);
    let bounds =
        WebSocketConfig::default().read_buffer_size(16 * 1024).max_message_size(Some(most)).max_frame_size(Some(most));
    let opened = async {
        let (host, tls) = (url.host_str().unwrap_or_default(), url.scheme() == "wss");
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port().unwrap_or(if tls { 443 } else { 80 });
        let stream = connect(host, port, tls).await.map_err(|error| Lost::Passing(error.to_string()))?;
        let shaken = client_async_with_config(url.as_str(), stream, Some(bounds)).await;
        let (socket, _) = shaken.map_err(|error| Lost::Passing(error.to_string()))?;
        let mut session = Session { socket, id: Arc::from(""), silence: Duration::ZERO, heard: Instant::now() };
        loop {
            if let Some(Message { says: Says::Welcome { session: id, silence }, .. }) = session.next().await? {
                (session.id, session.silence) = (Arc::from(id), silence);
                return Ok(session);
            }
        }
    };
    match tokio::time::timeout(config.timeout.0, opened).await {
        Ok(opened) => opened,
        Err(_) => Err(Lost::Passing("the server is silent (twitch.timeout)".to_owned())),
    }
}

/// Waits until then; for ever, where there is no such time.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// What a future comes to; nothing, ever, where there is none.
async fn pending_or<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
