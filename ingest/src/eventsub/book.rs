//! What is known of the channels that are waited for, what a session of EventSub has of them, and what is to be asked
//! next. What Twitch said of a channel outlasts the session; subscriptions do not.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

use super::helix::{AT_ONCE, Helix, Kind, Refusal, Subscribed};

/// Subscriptions that one connection may have.
const MOST: usize = 300;
/// For so long after a session Twitch may still count its subscriptions.
const LINGERING: Duration = Duration::from_secs(60);
/// Until room is asked for again meanwhile.
const LINGERING_PAUSE: Duration = Duration::from_secs(15);

/// What is known, and what the session has. It holds no more channels than are waited for.
#[derive(Debug)]
pub(super) struct Book {
    channels: BTreeMap<String, Channel>,
    /// Subscriptions of the session to channels that nobody waits for any more.
    over: VecDeque<String>,
    /// Halves of requests that Twitch refused for one of the channels in them.
    halves: Vec<Task>,
    /// Channels that are asked about.
    look: BTreeSet<String>,
    cost: u64,
    most: u64,
    /// Until then no more subscriptions are asked for.
    full: Option<Instant>,
    /// Until then those of the last session may still be counted.
    lingering: Option<Instant>,
    refused: Duration,
}

#[derive(Debug, Default)]
struct Channel {
    /// Twitch's id of it.
    user: Option<String>,
    /// It was refused by this id: the name may be somebody else's by now.
    stale: bool,
    subscriptions: HashMap<Kind, String>,
    /// Until then it is not asked for again.
    refused: Option<Instant>,
}

/// A request to Twitch's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Users(Vec<String>),
    Look(Vec<String>),
    Subscribe { channel: String, user: String, kind: Kind },
    Unsubscribe(String),
}

/// A request and what came of it.
#[derive(Debug)]
pub(super) enum Done {
    Users(Vec<String>, Result<HashMap<String, String>, Refusal>),
    Look(Vec<String>, Result<HashSet<String>, Refusal>),
    Subscribed(String, Kind, Result<Subscribed, Refusal>),
    /// Whatever it was: Twitch ends them by itself when the session ends.
    Unsubscribed,
}

/// What is learned from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// Whether each of these is live.
    Looked(Vec<(String, bool)>),
    /// The channel going live is told from now on.
    Watched(String),
    None,
}

impl Task {
    /// What is left of a request when only these channels are waited for.
    fn of(self, wanted: &BTreeSet<String>) -> Option<Self> {
        let left = |mut names: Vec<String>| {
            names.retain(|name| wanted.contains(name));
            (!names.is_empty()).then_some(names)
        };
        match self {
            Self::Users(names) => left(names).map(Self::Users),
            Self::Look(names) => left(names).map(Self::Look),
            other => Some(other),
        }
    }

    /// Whether it is asked on behalf of a session: one is made for it, where there is none.
    pub(super) fn needs_session(&self) -> bool {
        matches!(self, Self::Subscribe { .. })
    }

    /// Asks; `session` counts for subscriptions alone.
    pub(super) async fn run(self, helix: &Helix, session: &str) -> Done {
        match self {
            Self::Users(logins) => {
                let found = helix.users(&logins).await;
                Done::Users(logins, found)
            }
            Self::Look(logins) => {
                let live = helix.live(&logins).await;
                Done::Look(logins, live)
            }
            Self::Subscribe { channel, user, kind } => {
                Done::Subscribed(channel, kind, helix.subscribe(session, &user, kind).await)
            }
            Self::Unsubscribe(id) => {
                if let Err(refusal) = helix.unsubscribe(&id).await {
                    tracing::debug!(?refusal, "a subscription at Twitch is left behind");
                }
                Done::Unsubscribed
            }
        }
    }
}

impl Book {
    pub(super) fn new(refused: Duration) -> Self {
        let (channels, over, look) = (BTreeMap::new(), VecDeque::new(), BTreeSet::new());
        Self { channels, over, halves: Vec::new(), look, cost: 0, most: u64::MAX, full: None, lingering: None, refused }
    }

    /// Whether the session has a subscription: Twitch closes one on which nothing is subscribed to.
    pub(super) fn is_subscribed(&self) -> bool {
        self.channels.values().any(|channel| !channel.subscriptions.is_empty())
    }

    /// The session is over, and its subscriptions with it. Names that were looked up and refusals stay; the room for
    /// subscriptions is what it was before them.
    pub(super) fn session_over(&mut self, now: Instant) {
        if self.is_subscribed() || !self.over.is_empty() {
            (self.full, self.lingering) = (None, Some(now + LINGERING));
        }
        self.channels.values_mut().for_each(|channel| channel.subscriptions.clear());
        self.over.clear();
        (self.cost, self.most) = (0, u64::MAX);
    }

    /// When something that was refused may be asked for next.
    pub(super) fn again(&self, now: Instant) -> Option<Instant> {
        let refused = self.channels.values().filter_map(|channel| channel.refused);
        refused.chain(self.full).filter(|until| *until > now).min()
    }

    /// All channels are asked about: nobody told what happened before now.
    pub(super) fn look_at_all(&mut self) {
        self.look = self.channels.keys().cloned().collect();
    }

    /// The channel with this id.
    pub(super) fn channel_of(&self, user: &str) -> Option<&str> {
        self.channels.iter().find(|(_, channel)| channel.user.as_deref() == Some(user)).map(|(name, _)| name.as_str())
    }

    /// A subscription is over; returns its channel, where it is the one that is waited with.
    pub(super) fn revoked(&mut self, subscription: &str, now: Instant) -> Option<String> {
        for (name, channel) in &mut self.channels {
            let kind = channel.subscriptions.iter().find(|(_, id)| *id == subscription).map(|(kind, _)| *kind);
            if let Some(kind) = kind {
                channel.subscriptions.remove(&kind);
                self.cost = self.cost.saturating_sub(1);
                channel.refused = Some(now + self.refused);
                return (kind == Kind::Online).then(|| name.clone());
            }
        }
        None
    }

    /// What to ask next, of these channels.
    pub(super) fn next(&mut self, wanted: &BTreeSet<String>, now: Instant) -> Option<Task> {
        self.take_note(wanted);
        if let Some(id) = self.over.pop_front() {
            return Some(Task::Unsubscribe(id));
        }
        while let Some(half) = self.halves.pop() {
            if let Some(half) = half.of(wanted) {
                return Some(half);
            }
        }
        let may = |channel: &Channel| channel.refused.is_none_or(|until| now >= until);
        let nameless =
            self.channels.iter().filter(|(_, channel)| (channel.user.is_none() || channel.stale) && may(channel));
        let nameless: Vec<_> = nameless.map(|(name, _)| name.clone()).take(AT_ONCE).collect();
        if !nameless.is_empty() {
            return Some(Task::Users(nameless));
        }
        let lacking = |channels: &BTreeMap<String, Channel>, kind: Kind| {
            channels.iter().find_map(|(name, channel)| {
                let user =
                    channel.user.clone().filter(|_| !channel.subscriptions.contains_key(&kind) && may(channel))?;
                Some(Task::Subscribe { channel: name.clone(), user, kind })
            })
        };
        let may_ask = self.full.is_none_or(|until| now >= until);
        let room = may_ask && self.subscriptions() < MOST;
        if let Some(task) = lacking(&self.channels, Kind::Online).filter(|_| may_ask) {
            if room && self.cost < self.most {
                return Some(task);
            }
            if let Some(id) =
                self.channels.values_mut().find_map(|channel| channel.subscriptions.remove(&Kind::Offline))
            {
                self.cost = self.cost.saturating_sub(1);
                return Some(Task::Unsubscribe(id));
            }
        }
        // Of a channel that does not exist nothing is known: it is not said to be away.
        let known = |name: &String| self.channels.get(name).is_some_and(|channel| channel.user.is_some());
        let names: Vec<_> = self.look.iter().filter(|name| known(name)).take(AT_ONCE).cloned().collect();
        if !names.is_empty() {
            self.look.retain(|name| !names.contains(name));
            return Some(Task::Look(names));
        }
        // A courtesy, as long as there is room for as many channels again.
        lacking(&self.channels, Kind::Offline)
            .filter(|_| room && self.cost < self.most / 2 && self.subscriptions() < MOST / 2)
    }

    /// Learns from an answer; the error is one after which the session is given up.
    pub(super) fn learn(&mut self, done: Done, now: Instant) -> Result<News, Refusal> {
        let given_up = |refusal: &Refusal| matches!(refusal, Refusal::Token(_) | Refusal::Passing(_));
        match done {
            Done::Users(asked, Ok(found)) => {
                for name in asked {
                    let user = found.get(&name).cloned();
                    if user.is_none() {
                        tracing::warn!(channel = name, "Twitch has no such channel, as far as it says");
                    }
                    if let Some(channel) = self.channels.get_mut(&name) {
                        channel.refused = user.is_none().then(|| now + self.refused);
                        (channel.user, channel.stale) = (user, false);
                    }
                }
            }
            Done::Look(asked, Ok(live)) => {
                let looked = asked.into_iter().map(|name| {
                    let is = live.contains(&name);
                    (name, is)
                });
                return Ok(News::Looked(looked.collect()));
            }
            Done::Subscribed(name, kind, Ok(made)) => {
                (self.cost, self.most) = (made.cost, made.most);
                let Some(channel) = self.channels.get_mut(&name) else {
                    self.over.push_back(made.id);
                    return Ok(News::None);
                };
                channel.subscriptions.insert(kind, made.id);
                if kind == Kind::Online {
                    // It may have gone live just before.
                    self.look.insert(name.clone());
                    return Ok(News::Watched(name));
                }
            }
            Done::Users(_, Err(refusal)) | Done::Look(_, Err(refusal)) | Done::Subscribed(_, _, Err(refusal))
                if given_up(&refusal) =>
            {
                return Err(refusal);
            }
            Done::Subscribed(name, _, Err(Refusal::Wrong(reason))) => {
                tracing::warn!(channel = name, reason, "Twitch does not tell of a channel; it is asked about instead");
                if let Some(channel) = self.channels.get_mut(&name) {
                    (channel.refused, channel.stale) = (Some(now + self.refused), true);
                }
            }
            Done::Users(asked, Err(Refusal::Wrong(reason))) => match halves(asked) {
                Ok(halves) => self.halves.extend(halves.map(Task::Users)),
                Err(one) => {
                    tracing::warn!(channel = ?one, reason, "Twitch does not take the name of a channel");
                    for name in &one {
                        if let Some(channel) = self.channels.get_mut(name) {
                            channel.refused = Some(now + self.refused);
                        }
                    }
                }
            },
            Done::Look(asked, Err(Refusal::Wrong(reason))) => match halves(asked) {
                Ok(halves) => self.halves.extend(halves.map(Task::Look)),
                Err(one) => tracing::warn!(channel = ?one, reason, "Twitch does not say whether a channel is live"),
            },
            Done::Users(_, Err(refusal)) | Done::Look(_, Err(refusal)) | Done::Subscribed(_, _, Err(refusal)) => {
                tracing::warn!(?refusal, "Twitch allows no more for now; channels are asked about instead");
                metrics::counter!("crest_twitch_refusals_total").increment(1);
                let lingers = self.lingering.is_some_and(|until| now < until);
                let pause = if lingers { self.refused.min(LINGERING_PAUSE) } else { self.refused };
                self.full = Some(now + pause);
                let unknown = self.channels.values_mut().filter(|channel| channel.user.is_none());
                unknown.for_each(|channel| channel.refused = Some(now + self.refused));
            }
            Done::Unsubscribed => {}
        }
        Ok(News::None)
    }

    fn take_note(&mut self, wanted: &BTreeSet<String>) {
        for name in wanted {
            if !self.channels.contains_key(name) {
                self.channels.insert(name.clone(), Channel::default());
                self.look.insert(name.clone());
            }
        }
        let (look, over, cost) = (&mut self.look, &mut self.over, &mut self.cost);
        self.channels.retain(|name, channel| {
            let stays = wanted.contains(name);
            if !stays {
                look.remove(name);
                *cost = cost.saturating_sub(channel.subscriptions.len() as u64);
                over.extend(channel.subscriptions.drain().map(|(_, id)| id));
            }
            stays
        });
    }

    fn subscriptions(&self) -> usize {
        self.channels.values().map(|channel| channel.subscriptions.len()).sum()
    }
}

/// Both halves of what was asked; the error is the one that cannot be halved.
fn halves(mut asked: Vec<String>) -> Result<std::array::IntoIter<Vec<String>, 2>, Vec<String>> {
    if asked.len() < 2 {
        return Err(asked);
    }
    let rest = asked.split_off(asked.len() / 2);
    Ok([rest, asked].into_iter())
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
