//! YouTube's live chat, asked for again and again (`liveChatMessages.list`): no sooner than YouTube says, and no
//! more often than the day's budget allows. The method that streams (`streamList`) is not used: it is documented
//! for gRPC alone.

mod api;
pub(crate) mod item;
mod quota;

use crest_core::Result;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

use super::config::YoutubeConfig;
use super::follower::left_out;
use super::heard::{Heard, State, now};
use crate::pause::Pause;
use api::{Api, Refusal};
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
        let mut chat = Chat { youtube: &self, api, video, heard: &heard, pause, id: None, page: None };
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

    /// Asks once: for the chat's id while it is not known, then for what is new.
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
        self.pay(quota::LIST)?;
        let page = self.api.messages(&id, self.page.as_deref()).await?;
        self.pause.reset();
        self.tell(Heard::State(State::Following)).await;
        let mut over = page.offline_at.is_some();
        for item in &page.items {
            match item::read(item, now()) {
                Ok(Some(Heard::State(State::Over))) => over = true,
                Ok(Some(heard)) => self.tell(heard).await,
                Ok(None) => {}
                Err(()) => left_out(PLATFORM, "malformed"),
            }
        }
        if over {
            return Ok(Next::Over);
        }
        self.page = page.next_page_token.or(self.page.take());
        let pace = self.youtube.quota.pace(self.youtube.followers.load(Ordering::Relaxed));
        let told = Duration::from_millis(page.polling_interval_millis).min(LONGEST_INTERVAL);
        Ok(Next::After(told.max(pace)))
    }

    async fn refused(&mut self, refusal: Refusal) -> Next {
        metrics::counter!("crest_chat_reconnects_total", "platform" => PLATFORM).increment(1);
        match refusal {
            Refusal::Over => Next::Over,
            Refusal::Passing(reason) => {
                self.waiting(reason).await;
                Next::After(self.pause.next())
            }
            Refusal::Wrong(reason) => {
                self.waiting(reason).await;
                // It may be another chat by then.
                (self.id, self.page) = (None, None);
                Next::After(LOOK_AGAIN)
            }
            Refusal::Quota => {
                let (now, until) = (Timestamp::now(), self.youtube.quota.exhausted(Timestamp::now()));
                self.waiting(format!("the day's quota of YouTube's API is used up; chat goes on at {until}")).await;
                Next::After(Duration::try_from(until.duration_since(now)).unwrap_or(LOOK_AGAIN).max(FLOOR))
            }
        }
    }

    /// Takes units of the budget; without enough, it is as if YouTube had said so.
    fn pay(&self, units: u32) -> Result<(), Refusal> {
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
