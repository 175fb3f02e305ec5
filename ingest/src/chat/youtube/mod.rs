//! YouTube's live chat. It is read as a stream (`liveChatMessages.streamList`) that is opened again where the last
//! one ended; where there is none, it is asked for again and again (`liveChatMessages.list`): no sooner than YouTube
//! says. Neither is done more often than the day's budget allows.

mod api;
pub(crate) mod elements;
pub(crate) mod item;
mod quota;
mod stream;

use crest_core::Result;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::config::YoutubeConfig;
use super::follower::left_out;
use super::heard::{Heard, State, now};
use crate::pause::Pause;
use api::{Api, Page, Refusal};
use quota::Quota;

pub(super) const PLATFORM: &str = "youtube";

/// The longest pause that an answer may ask for.
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);
/// How long it takes until a broadcast that has no chat, or one that may not be read, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The API, and how much of it may be used.
pub(crate) struct Youtube {
    /// `None` without a key.
    api: Option<Api>,
    quota: Quota,
    followers: AtomicUsize,
    longest_pause: Duration,
    silence: Duration,
}

/// What a follower does next.
enum Next {
    /// It asks again after so long.
    After(Duration),
    /// The chat is over.
    Over,
}

/// One chat that is followed.
struct Chat<'a> {
    youtube: &'a Youtube,
    api: &'a Api,
    video: String,
    heard: &'a mpsc::Sender<Heard>,
    pause: Pause,
    /// The chat's id, once it is known.
    id: Option<String>,
    /// What is new begins here.
    page: Option<String>,
    /// There is no stream of it.
    listed: bool,
    /// When units were paid last.
    asked: Instant,
}

impl Youtube {
    /// The error names the setting that is wrong.
    pub(super) fn new(config: YoutubeConfig) -> Result<Self> {
        let key = config.key().map(str::to_owned);
        Ok(Self {
            api: key.map(|key| Api::new(&config, key)).transpose()?,
            quota: Quota::new(config.daily_quota, config.spread.0),
            followers: AtomicUsize::new(0),
            longest_pause: config.longest_pause.0,
            silence: config.silence.0,
        })
    }

    /// Follows a broadcast's chat until it is over or nobody listens.
    pub(super) async fn follow(self: Arc<Self>, video: String, heard: mpsc::Sender<Heard>) {
        let Some(api) = &self.api else {
            let reason = "this process has no key for YouTube's API; set chat.youtube.api_key and start it again";
            let _ = heard.send(Heard::State(State::Waiting(reason.to_owned()))).await;
            return heard.closed().await;
        };
        let counted = Counted::new(&self.followers);
        let pause = Pause::up_to(self.longest_pause);
        let mut chat = Chat {
            youtube: &self,
            api,
            video,
            heard: &heard,
            pause,
            id: None,
            page: None,
            listed: false,
            asked: Instant::now(),
        };
        tokio::select! {
            () = heard.closed() => {}
            () = chat.follow() => {}
        }
        drop(counted);
    }
}

impl Chat<'_> {
    async fn follow(&mut self) {
        loop {
            let next = match self.ask().await {
                Ok(next) => next,
                Err(refusal) => self.refused(refusal).await,
            };
            match next {
                Next::After(wait) => tokio::time::sleep(wait).await,
                Next::Over => return self.tell(Heard::State(State::Over)).await,
            }
        }
    }

    /// Asks once: for the chat's id while it is not known, then for what is new, with a stream until that ends.
    async fn ask(&mut self) -> Result<Next, Refusal> {
        let Some(id) = self.id.clone() else {
            self.pay(quota::VIDEO)?;
            return Ok(match self.api.chat_of(&self.video).await? {
                Some(id) => {
                    self.id = Some(id);
                    Next::After(Duration::ZERO)
                }
                None => {
                    self.waiting(format!("the broadcast '{}' has no live chat at the moment", self.video)).await;
                    Next::After(LOOK_AGAIN)
                }
            });
        };
        if self.listed { self.list(&id).await } else { self.stream(&id).await }
    }

    /// Reads one stream to its end.
    async fn stream(&mut self, id: &str) -> Result<Next, Refusal> {
        self.pay(quota::LIST)?;
        let (api, silence, since) = (self.api, self.youtube.silence, self.page.clone());
        // It may begin no sooner than somebody writes.
        let Ok(stream) = timeout(silence, api.stream(id, since.as_deref())).await else { return Ok(self.silent()) };
        let (mut stream, mut received) = (stream?, false);
        self.tell(Heard::State(State::Following)).await;
        loop {
            let Ok(page) = timeout(silence, stream.next()).await else { return Ok(self.silent()) };
            match page? {
                Some(page) => {
                    received = true;
                    self.pause.reset();
                    if self.take(page).await {
                        return Ok(Next::Over);
                    }
                }
                None if received => return Ok(self.again()),
                None => return Err(Refusal::Passing("YouTube's stream ended before it told anything".to_owned())),
            }
        }
    }

    /// A chat in which nobody writes is no failure, and a connection that YouTube has forgotten looks the same.
    fn silent(&mut self) -> Next {
        self.pause.reset();
        self.again()
    }

    /// After a stream has ended: where every one ends at once, they cost no more than looks do.
    fn again(&mut self) -> Next {
        metrics::counter!("crest_chat_reconnects_total", "platform" => PLATFORM).increment(1);
        Next::After(self.pause.next().max(self.pace()))
    }

    /// Looks once.
    async fn list(&mut self, id: &str) -> Result<Next, Refusal> {
        self.pay(quota::LIST)?;
        let page = self.api.messages(id, self.page.as_deref()).await?;
        self.pause.reset();
        self.tell(Heard::State(State::Following)).await;
        let told = Duration::from_millis(page.polling_interval_millis).min(LONGEST_INTERVAL);
        Ok(if self.take(page).await { Next::Over } else { Next::After(told.max(self.pace())) })
    }

    /// Hands on what is new; whether the chat is over.
    async fn take(&mut self, page: Page) -> bool {
        let mut over = page.offline_at.is_some();
        for item in &page.items {
            match item::read(item, now()) {
                Ok(Some(Heard::State(State::Over))) => over = true,
                Ok(Some(heard)) => self.tell(heard).await,
                Ok(None) => {}
                Err(()) => left_out(PLATFORM, "malformed"),
            }
        }
        self.page = page.next_page_token.or(self.page.take());
        over
    }

    /// How long the next request has to wait, so that the budget lasts.
    fn pace(&self) -> Duration {
        let pace = self.youtube.quota.pace(self.youtube.followers.load(Ordering::Relaxed));
        pace.saturating_sub(self.asked.elapsed())
    }

    async fn refused(&mut self, refusal: Refusal) -> Next {
        metrics::counter!("crest_chat_reconnects_total", "platform" => PLATFORM).increment(1);
        match refusal {
            Refusal::Over => Next::Over,
            Refusal::Passing(reason) => {
                self.waiting(reason).await;
                Next::After(self.pause.next().max(self.pace()))
            }
            Refusal::Wrong(reason) => {
                self.waiting(reason).await;
                // It may be another chat by then.
                (self.id, self.page) = (None, None);
                Next::After(LOOK_AGAIN)
            }
            Refusal::NoStream(reason) => {
                tracing::info!(video = self.video, reason, "YouTube does not stream the chat; it is looked at instead");
                self.listed = true;
                Next::After(Duration::ZERO)
            }
            Refusal::Quota => {
                let (now, until) = (Timestamp::now(), self.youtube.quota.exhausted(Timestamp::now()));
                self.waiting(format!("the day's quota of YouTube's API is used up; chat goes on at {until}")).await;
                Next::After(Duration::try_from(until.duration_since(now)).unwrap_or(LOOK_AGAIN).max(FLOOR))
            }
        }
    }

    /// Takes units of the budget; without enough, it is as if YouTube had said so.
    fn pay(&mut self, units: u32) -> Result<(), Refusal> {
        self.asked = Instant::now();
        self.youtube.quota.take(units, Timestamp::now()).map_err(|_| Refusal::Quota)
    }

    async fn waiting(&self, reason: String) {
        self.tell(Heard::State(State::Waiting(reason))).await;
    }

    async fn tell(&self, heard: Heard) {
        // Where nobody listens any more, this ends at once.
        let _ = self.heard.send(heard).await;
    }
}

/// The shortest wait for a new day.
const FLOOR: Duration = Duration::from_secs(1);

/// A follower that shares the budget, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(followers: &'a AtomicUsize) -> Self {
        followers.fetch_add(1, Ordering::Relaxed);
        Self(followers)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
