//! Channels at Twitch whose streams wait for them to go live: told by EventSub over its WebSocket, and asked about
//! now and then. Only with a token; without one, streams are tried with pauses.
//!
//! Twitch was stood in for by a server of the tests that speaks as its documentation says; it was not reached.

mod book;
mod config;
mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod helix;
mod message;

pub use config::TwitchApiConfig;

use crest_core::{Error, Result};
use reqwest::Url;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connection::Keeper;
use helix::Helix;

/// The longest login name.
const LONGEST_LOGIN: usize = 25;
/// For so long after Twitch told of a channel, what its API says may be older than that.
const SETTLES: Duration = Duration::from_secs(180);
/// Looks in a row that find a live channel away before it counts as that.
const AWAY: u32 = 2;
/// Pages of the site that are no channels.
const PAGES: [&str; 8] = ["directory", "videos", "settings", "downloads", "jobs", "turbo", "search", "p"];

/// What is known of channels.
pub(crate) struct EventSub {
    config: TwitchApiConfig,
    /// `None` without a token.
    helix: Option<Arc<Helix>>,
    url: Url,
    channels: Mutex<HashMap<String, Channel>>,
    /// Channels came or went.
    changed: Notify,
    running: AtomicBool,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

struct Channel {
    known: watch::Sender<Known>,
    waiting: usize,
}

/// What is known of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    /// Whether it is live, as far as was heard last.
    live: Option<bool>,
    /// Whether Twitch tells when that changes.
    watched: bool,
    /// How many times it went live.
    times: u64,
    /// When anything was heard of it last.
    heard: Option<Instant>,
    /// What EventSub told of it last, and when.
    told: Option<(bool, Instant)>,
    /// Looks in a row that found it away though it was live.
    missed: u32,
}

impl Known {
    /// Takes note of what was heard, and says whether that is news.
    fn hear(&mut self, live: bool, told: bool, now: Instant) -> bool {
        self.heard = Some(now);
        if told {
            self.told = Some((live, now));
        } else if self.told.is_some_and(|(said, at)| said != live && now < at + SETTLES) {
            return false;
        }
        self.missed = if live || told || self.live != Some(true) { 0 } else { self.missed + 1 };
        if (1..AWAY).contains(&self.missed) {
            return false;
        }
        self.missed = 0;
        let went = live && (told || self.live != Some(true));
        let changed = went || self.live != Some(live);
        (self.live, self.times) = (Some(live), self.times + u64::from(went));
        changed
    }

    /// Whether it is away, as was heard lately.
    fn is_away(&self, look_again: Duration, now: Instant) -> bool {
        self.live == Some(false) && self.heard.is_some_and(|heard| now.duration_since(heard) <= look_again * 2)
    }
}

/// A stream's place at a channel, until it is dropped.
pub(crate) struct Watching {
    all: Arc<EventSub>,
    name: String,
    known: watch::Receiver<Known>,
    /// How many times it had gone live when the source was tried last.
    times: u64,
}

impl EventSub {
    /// The error names the setting that is wrong.
    pub(crate) fn new(config: TwitchApiConfig, tasks: TaskTracker, shutdown: CancellationToken) -> Result<Arc<Self>> {
        let helix = Helix::new(&config)?.map(Arc::new);
        let url = Url::parse(&config.eventsub_url).ok().filter(|url| matches!(url.scheme(), "ws" | "wss"));
        let url = url.ok_or_else(|| Error::user("twitch.eventsub_url must begin with wss:// or ws://"))?;
        let (channels, changed, running) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        Ok(Arc::new(Self { config, helix, url, channels, changed, running, tasks, shutdown }))
    }

    /// Begins to watch the channel of this page, if it is one and there is a token.
    pub(crate) fn watch(self: &Arc<Self>, page: &str) -> Option<Watching> {
        let (helix, name) = (self.helix.as_ref()?, channel(page)?);
        let mut channels = self.channels();
        let full = channels.len() >= self.config.channels;
        let known = match channels.entry(name.clone()) {
            Entry::Occupied(mut place) => {
                place.get_mut().waiting += 1;
                place.get().known.subscribe()
            }
            Entry::Vacant(_) if full => {
                tracing::warn!(
                    channel = name,
                    "too many channels are waited for (twitch.channels); this one is tried with pauses"
                );
                return None;
            }
            Entry::Vacant(place) => {
                place.insert(Channel { known: watch::Sender::default(), waiting: 1 }).known.subscribe()
            }
        };
        drop(channels);
        self.changed.notify_one();
        if !self.running.swap(true, Ordering::Relaxed) {
            self.tasks.spawn(Keeper::new(Arc::clone(self), Arc::clone(helix)).run());
        }
        let times = known.borrow().times;
        Some(Watching { all: Arc::clone(self), name, known, times })
    }

    fn wanted(&self) -> BTreeSet<String> {
        self.channels().keys().cloned().collect()
    }

    /// Notes what was heard of a channel.
    fn note(&self, name: &str, live: bool, told: bool) {
        if let Some(channel) = self.channels().get(name) {
            channel.known.send_if_modified(|known| known.hear(live, told, Instant::now()));
        }
    }

    /// Notes whether Twitch tells of a channel, or of any.
    fn watched(&self, name: Option<&str>, watched: bool) {
        for (_, channel) in self.channels().iter().filter(|(of, _)| name.is_none_or(|name| name == *of)) {
            channel.known.send_if_modified(|known| std::mem::replace(&mut known.watched, watched) != watched);
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<String, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching {
    /// The source is tried now: what woke it up before does not do so again.
    pub(crate) fn begin(&mut self) {
        self.times = self.known.borrow_and_update().times;
    }

    /// Why the stream waits, where that is because the channel is not live.
    pub(crate) fn is_away(&self) -> Option<String> {
        (self.known.borrow().live == Some(false)).then(|| reason(&self.name))
    }

    /// The same, once that is known.
    pub(crate) fn away(&self) -> impl Future<Output = String> + use<> {
        let (mut known, name) = (self.known.clone(), self.name.clone());
        async move {
            if known.wait_for(|known| known.live == Some(false)).await.is_err() {
                std::future::pending::<()>().await;
            }
            reason(&name)
        }
    }

    /// Waits, but not for longer than `limit`, until it is known whether the channel is live.
    pub(crate) async fn settle(&mut self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.known.wait_for(|known| known.live.is_some())).await;
    }

    /// Whether the channel is known to be live.
    pub(crate) fn is_live(&self) -> bool {
        self.known.borrow().live == Some(true)
    }

    /// Why its source need not be tried, where Twitch said lately that the channel is not live.
    pub(crate) fn away_lately(&self) -> Option<String> {
        let away = self.known.borrow().is_away(self.all.config.look_again.0, Instant::now());
        away.then(|| reason(&self.name))
    }

    /// Returns `true` when the channel goes live, and otherwise `false` after `pause`; of one that is away, as Twitch
    /// said lately, after the pause in which all are asked about.
    pub(crate) async fn rest(&mut self, pause: Duration) -> bool {
        let began = Instant::now();
        loop {
            let known = *self.known.borrow_and_update();
            if known.times != self.times {
                return true;
            }
            let look_again = self.all.config.look_again.0;
            let pause = if known.is_away(look_again, Instant::now()) { pause.max(look_again) } else { pause };
            tokio::select! {
                () = tokio::time::sleep_until(began + pause) => return false,
                changed = self.known.changed() => if changed.is_err() {
                    tokio::time::sleep_until(began + pause).await;
                    return false;
                },
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut channels = self.all.channels();
        if let Some(channel) = channels.get_mut(&self.name) {
            channel.waiting -= 1;
            if channel.waiting == 0 {
                channels.remove(&self.name);
            }
        }
        drop(channels);
        self.all.changed.notify_one();
    }
}

fn reason(name: &str) -> String {
    format!("the channel {name} is not live; waiting for it to go live")
}

/// The login name of the channel whose page this is.
pub(crate) fn channel(page: &str) -> Option<String> {
    let url = Url::parse(page).ok()?;
    let host = url.host_str()?;
    let mut segments = url.path_segments()?.filter(|segment| !segment.is_empty());
    let (name, rest) = (segments.next()?.to_ascii_lowercase(), segments.next());
    let is_login = name.len() <= LONGEST_LOGIN && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    // One such name, and Twitch refuses a request for a hundred.
    let is_login = is_login && !name.starts_with('_');
    let of_site = host == "twitch.tv" || matches!(host.strip_suffix(".twitch.tv"), Some("www" | "m"));
    (of_site && is_login && rest.is_none() && !PAGES.contains(&name.as_str())).then_some(name)
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod peer;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_older_than_what_was_told_does_not_count() {
        let (mut known, began) = (Known::default(), Instant::now());
        assert!(known.hear(false, false, began));
        assert!(known.hear(true, true, began));
        for _ in 0..5 {
            assert!(!known.hear(false, false, began + SETTLES / 2), "the API is behind");
        }
        assert_eq!((known.live, known.times), (Some(true), 1));
        assert!(!known.hear(false, false, began + SETTLES), "one look does not make it away");
        assert!(!known.hear(true, false, began + SETTLES) && !known.hear(false, false, began + SETTLES));
        assert!(known.hear(false, false, began + SETTLES), "two in a row do");
        assert!(known.hear(true, true, began + SETTLES) && known.hear(false, true, began + SETTLES));
        assert_eq!(known.live, Some(false), "told, it is at once");
        assert!(!known.hear(true, false, began + SETTLES));
        assert!(known.is_away(SETTLES, began + SETTLES * 3) && !known.is_away(SETTLES, began + SETTLES * 4));
    }

    #[test]
    fn a_channel_is_known_by_its_page() {
        for page in ["https://www.twitch.tv/Show", "https://twitch.tv/show/", "https://m.twitch.tv/SHOW?x=1"] {
            assert_eq!(channel(page).as_deref(), Some("show"), "{page}");
        }
        for page in [
            "https://www.twitch.tv/",
            "https://www.twitch.tv/videos/123",
            "https://www.twitch.tv/directory",
            "https://clips.twitch.tv/show",
            "https://twitch.tv.evil.example/show",
            "https://www.twitch.tv/a-b",
            "https://www.twitch.tv/_a",
            "show",
        ] {
            assert_eq!(channel(page), None, "{page}");
        }
    }
}
