//! A stream: one connected or connectable feed of a tenant, and the states it goes through.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::chat::ChatSource;
use crate::id::{OrganizationId, StreamId};
use crate::instance::InstanceId;
use crate::time::{MediaTime, Session, WallTime};

/// `created -> live <-> interrupted -> ended | failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// Nothing has been received yet.
    Created,
    /// Media is arriving.
    Live,
    /// The feed broke off and may come back.
    Interrupted,
    /// Over: stopped, or away for longer than it may be.
    Ended,
    /// Over, because something made going on impossible.
    Failed,
}

impl StreamState {
    /// Its name in the API and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Live => "live",
            Self::Interrupted => "interrupted",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Created, Self::Live, Self::Interrupted, Self::Ended, Self::Failed].into_iter().find(|s| s.name() == name)
    }
    /// Whether a stream may go from here to `next`.
    pub const fn can_become(self, next: Self) -> bool {
        use StreamState::{Created, Ended, Failed, Interrupted, Live};
        matches!(
            (self, next),
            (Created, Live | Ended | Failed)
                | (Live, Interrupted | Ended | Failed)
                | (Interrupted, Live | Ended | Failed)
        )
    }
    /// Whether nothing follows.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Failed)
    }
}

/// How a feed reaches crest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Pushed over RTMP.
    Rtmp,
    /// Pushed over WHIP.
    Whip,
    /// Pushed over SRT.
    Srt,
    /// Pulled from an address.
    Url,
}

/// A server that a pushed feed is relayed to, bit for bit.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardTarget {
    /// Server and application: `rtmp://live.example/app`, or `rtmps://`.
    pub url: String,
    /// The stream key there, where the address does not end with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_key: Option<String>,
}

impl ForwardTarget {
    /// The address as it may be shown and logged: `…` stands for the key, and for a query, which may be one.
    pub fn shown(&self) -> String {
        let address = self.url.split_once('?').map_or(self.url.as_str(), |(address, _)| address);
        format!("{}/…", address.trim_end_matches('/'))
    }
}

/// Without the key: whoever writes a stream to the log writes this.
impl fmt::Debug for ForwardTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardTarget").field("url", &self.shown()).finish_non_exhaustive()
    }
}

/// How a server is doing that a stream is relayed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardState {
    /// Nobody publishes, so there is nothing to relay.
    Idle,
    /// It is connected to for the first time since the publisher came.
    Connecting,
    /// It takes the feed.
    Live,
    /// It failed, and is tried again and again.
    Waiting,
}

/// How a server is doing, why, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardStatus {
    /// How it is doing.
    pub state: ForwardState,
    /// What went wrong last, where something did; without secrets.
    pub reason: Option<String>,
    /// Since when it is in this state.
    pub since: WallTime,
}

/// A stream as the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Its id.
    pub id: StreamId,
    /// The tenant it belongs to.
    pub organization_id: OrganizationId,
    /// What its owner calls it.
    pub name: String,
    /// How it arrives.
    pub source: SourceKind,
    /// The address it is pulled from, for `url`.
    pub source_url: Option<String>,
    /// Which of its audio tracks is analysed and clipped, counted from 0; `None` takes the first, or the one that the
    /// source itself prefers.
    pub audio_track: Option<u8>,
    /// Where its chat is read, if anywhere but over the API.
    pub chat: Option<ChatSource>,
    /// Where it is relayed to as it arrives.
    pub forward: Vec<ForwardTarget>,
    /// How the servers of `forward` are doing, in their order, as whoever feeds the stream noted it last; empty
    /// where nobody does. It means something while the stream is live: a process that died noted nothing.
    pub forwarded: Vec<ForwardStatus>,
    /// The secret that a publisher must present.
    pub stream_key: String,
    /// Where it is in its life.
    pub state: StreamState,
    /// Why it is there, where there is something to say.
    pub state_reason: Option<String>,
    /// The latest session, if there was one.
    pub session: Option<Session>,
    /// The process that feeds or fed it.
    pub instance: Option<InstanceId>,
    /// When it was created.
    pub created_at: WallTime,
    /// When its state changed last.
    pub updated_at: WallTime,
}

/// One stretch of a stream on one timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The stream.
    pub stream_id: StreamId,
    /// Its number.
    pub session: Session,
    /// Wall-clock time at media time 0.
    pub started_at: WallTime,
    /// Media time at which it ended, once it has.
    pub ended_at: Option<MediaTime>,
}

impl SessionRow {
    /// Where an instant of the wall clock lies on the session's timeline; negative before its start.
    pub fn media_at(&self, wall: WallTime) -> MediaTime {
        MediaTime::from_millis(wall.0.saturating_sub(self.started_at.0))
    }

    /// The wall-clock time of an instant of media.
    pub fn wall_at(&self, media: MediaTime) -> WallTime {
        self.started_at.plus_millis(media.nanos() / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::ForwardTarget;
    use super::StreamState::*;

    #[test]
    fn a_target_shows_neither_its_key_nor_its_query() {
        let shown = |url: &str| ForwardTarget { url: url.to_owned(), stream_key: Some("a_key".to_owned()) }.shown();
        assert_eq!(shown("rtmp://live.test/app"), "rtmp://live.test/app/…");
        assert_eq!(shown("rtmps://live.test:443/app/?auth=a/b"), "rtmps://live.test:443/app/…");
        let target = ForwardTarget { url: "rtmp://live.test/app?a_token".to_owned(), stream_key: None };
        assert!(!format!("{target:?}").contains("a_token"));
    }

    #[test]
    fn a_stream_that_is_over_stays_over() {
        for state in [Created, Live, Interrupted, Ended, Failed] {
            assert!(!Ended.can_become(state));
            assert!(!Failed.can_become(state));
            assert!(!state.can_become(Created));
        }
        assert!(Live.can_become(Interrupted) && Interrupted.can_become(Live));
    }
}
