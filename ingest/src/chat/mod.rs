//! Chats that crest follows by itself. One follower per stream that is fed here and names a chat, from its
//! first session to its end: what the platform tells is placed on the session's timeline by its wall-clock
//! time and appended to `chat.messages`.
//!
//! Both platforms were stood in for by servers of the tests that speak as the platforms' documentation says;
//! neither was reached.

mod config;
mod follower;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod heard;
mod placed;
mod shown;
pub(crate) mod twitch;
pub(crate) mod youtube;

pub use config::{ChatConfig, TwitchConfig, YoutubeConfig};

use crest_core::bus::SharedBus;
use crest_core::chat::ChatSource;
use crest_core::store::SharedStore;
use crest_core::stream::Stream;
use crest_core::{Result, Session};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use follower::Follower;
use heard::Heard;
use twitch::{Membership, Twitch};
use youtube::Youtube;

/// The chats that this process follows.
pub(crate) struct Chats {
    store: SharedStore,
    bus: SharedBus,
    queue: usize,
    remembered: usize,
    twitch: Arc<Twitch>,
    youtube: Arc<Youtube>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A chat that is followed for as long as this is kept.
pub(crate) struct Following {
    session: watch::Sender<Session>,
    _stop: DropGuard,
}

impl Chats {
    /// The error names the setting that is wrong.
    pub(crate) fn new(
        store: SharedStore,
        bus: SharedBus,
        config: ChatConfig,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>> {
        let twitch = Twitch::new(config.twitch, tasks.clone(), shutdown.clone())?;
        let youtube = Arc::new(Youtube::new(config.youtube)?);
        let (queue, remembered) = (config.queue, config.remembered);
        Ok(Arc::new(Self { store, bus, queue, remembered, twitch, youtube, tasks, shutdown }))
    }

    /// Follows the stream's chat, if it names one, and places it in this session from now on.
    pub(crate) fn follow(self: &Arc<Self>, stream: &Stream, session: Session, following: &mut Option<Following>) {
        let Some(source) = &stream.chat else { return };
        match following {
            Some(following) => {
                following.session.send_if_modified(|current| std::mem::replace(current, session) != session);
            }
            None => {
                let (sender, sessions) = watch::channel(session);
                let stop = self.shutdown.child_token();
                let follower = Follower::new(Arc::clone(self), stream, source.clone(), sessions, stop.clone());
                self.tasks.spawn(follower.run());
                *following = Some(Following { session: sender, _stop: stop.drop_guard() });
            }
        }
    }

    /// Begins to listen; what keeps a place at the platform, until it is dropped. The sender is dropped when
    /// nothing follows.
    fn listen(&self, source: &ChatSource, heard: mpsc::Sender<Heard>) -> Option<Membership> {
        match source {
            ChatSource::Twitch { channel } => Some(self.twitch.join(channel, heard)),
            ChatSource::Youtube { video_id } => {
                self.tasks.spawn(Arc::clone(&self.youtube).follow(video_id.clone(), heard));
                None
            }
        }
    }
}
