//! Twitch's chat, which anybody may read over IRC without an account. All streams of the process share the
//! connections: a channel is joined once, however many streams follow it, and a connection has a limited number
//! of channels.
//!
//! What one stream does not take in time holds its connection up, and with it the others on it: they all wait for
//! the same bus.

mod connection;
mod joins;
pub(crate) mod line;
mod lines;
mod server;

use crest_core::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::TwitchConfig;
use super::heard::Heard;
use connection::Connection;
use joins::Pace;
use server::Server;

pub(super) const PLATFORM: &str = "twitch";

/// The connections to Twitch's chat.
pub(crate) struct Twitch {
    config: TwitchConfig,
    server: Server,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    groups: Mutex<Vec<Arc<Group>>>,
    /// Twitch counts joins per account and address, not per connection.
    pace: Pace,
}

/// The channels of one connection, and who follows them. It is changed only while the list of groups is locked.
struct Group {
    members: Mutex<HashMap<String, Vec<Member>>>,
    /// Members came or went.
    changed: Notify,
}

struct Member {
    number: u64,
    heard: mpsc::Sender<Heard>,
}

/// One follower's place in a channel, until it is dropped.
pub(crate) struct Membership {
    twitch: Arc<Twitch>,
    group: Arc<Group>,
    channel: String,
    number: u64,
}

impl Twitch {
    /// The error names the setting that is wrong.
    pub(super) fn new(config: TwitchConfig, tasks: TaskTracker, shutdown: CancellationToken) -> Result<Arc<Self>> {
        let server = Server::parse(&config.server)?;
        Ok(Arc::new(Self { config, server, tasks, shutdown, groups: Mutex::default(), pace: Pace::default() }))
    }

    /// Follows a channel: on the connection that has it, one with room for it, or a new one.
    pub(super) fn join(self: &Arc<Self>, channel: &str, heard: mpsc::Sender<Heard>) -> Membership {
        let mut groups = self.groups();
        let has = |group: &&Arc<Group>| group.members().contains_key(channel);
        let has_room = |group: &&Arc<Group>| group.members().len() < self.config.channels;
        let group = match groups.iter().find(has).or_else(|| groups.iter().find(has_room)) {
            Some(group) => Arc::clone(group),
            None => {
                let group = Arc::new(Group { members: Mutex::default(), changed: Notify::new() });
                groups.push(Arc::clone(&group));
                self.tasks.spawn(Connection::new(Arc::clone(self), Arc::clone(&group)).run());
                group
            }
        };
        let number = fastrand::u64(..);
        group.members().entry(channel.to_owned()).or_default().push(Member { number, heard });
        group.changed.notify_one();
        Membership { twitch: Arc::clone(self), group, channel: channel.to_owned(), number }
    }

    /// Whether nobody follows anything of the group any more; then it is not joined by anybody again.
    fn is_over(&self, group: &Arc<Group>) -> bool {
        let mut groups = self.groups();
        let over = group.members().is_empty();
        if over {
            groups.retain(|other| !Arc::ptr_eq(other, group));
        }
        over
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn members(&self) -> MutexGuard<'_, HashMap<String, Vec<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channels(&self) -> Vec<String> {
        self.members().keys().cloned().collect()
    }

    /// Tells everybody who follows the channel, or all channels; waits where one of them has no room.
    async fn tell(&self, channel: Option<&str>, heard: Heard) {
        let followers: Vec<_> = {
            let members = self.members();
            let meant = members.iter().filter(|(name, _)| channel.is_none_or(|channel| channel == *name));
            meant.flat_map(|(_, members)| members).map(|member| member.heard.clone()).collect()
        };
        for follower in followers {
            // One that has gone needs nothing any more.
            let _ = follower.send(heard.clone()).await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let _groups = self.twitch.groups();
        let mut members = self.group.members();
        if let Some(followers) = members.get_mut(&self.channel) {
            followers.retain(|member| member.number != self.number);
            if followers.is_empty() {
                members.remove(&self.channel);
            }
        }
        drop(members);
        self.group.changed.notify_one();
    }
}
