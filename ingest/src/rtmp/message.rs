//! RTMP messages, and what a peer must not do with them (Adobe's RTMP specification 1.0, section 5.4).

use bytes::Bytes;

// Message types.
pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const ACKNOWLEDGEMENT: u8 = 3;
pub(crate) const USER_CONTROL: u8 = 4;
pub(crate) const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
pub(crate) const SET_PEER_BANDWIDTH: u8 = 6;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const DATA_AMF3: u8 = 15;
pub(crate) const COMMAND_AMF3: u8 = 17;
pub(crate) const DATA: u8 = 18;
pub(crate) const COMMAND: u8 = 20;

// Events of user control.
pub(crate) const STREAM_BEGIN: u16 = 0;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;

/// Bytes of the chunks that are sent, once the peer was told.
pub(crate) const CHUNK_SIZE: u32 = 4096;
/// How many bytes may be under way before they are acknowledged, here and there, unless the peer says otherwise.
pub(crate) const WINDOW: u32 = 2_500_000;
/// The longest command or metadata message; they are a few hundred bytes.
pub(super) const MAX_COMMAND: usize = 64 * 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its type.
    pub(crate) kind: u8,
    /// The message stream that it belongs to; 0 is the connection itself.
    pub(crate) stream: u32,
    /// Milliseconds; wraps after 49 days.
    pub(crate) timestamp: u32,
    /// Its payload.
    pub(crate) body: Bytes,
}

impl Message {
    /// A message of the connection itself.
    pub(crate) fn control(kind: u8, body: impl Into<Bytes>) -> Self {
        Self { kind, stream: 0, timestamp: 0, body: body.into() }
    }

    /// An event of user control.
    pub(crate) fn event(event: u16, argument: [u8; 4]) -> Self {
        Self::control(USER_CONTROL, [&event.to_be_bytes()[..], &argument].concat())
    }

    /// The answer to this, where it is a ping.
    pub(crate) fn pong(&self) -> Option<Self> {
        let (event, argument) = self.body.split_first_chunk()?;
        let is_ping = self.kind == USER_CONTROL && u16::from_be_bytes(*event) == PING_REQUEST;
        argument.first_chunk().filter(|_| is_ping).map(|time| Self::event(PING_RESPONSE, *time))
    }

    /// The number that a control message begins with.
    pub(crate) fn number(&self) -> Option<u32> {
        self.body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

/// What a peer must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("what was sent is not RTMP")]
    NotRtmp,
    #[error("what was sent is TLS; rtmps:// goes to rtmp.tls_listen")]
    Tls,
    #[error("too many chunk streams")]
    ChunkStreams,
    #[error("messages larger than allowed")]
    TooLarge,
    #[error("malformed RTMP chunks")]
    Malformed,
    #[error("a command or metadata beyond all bounds")]
    Command,
    #[error("a command that breaks off or is no AMF0")]
    Broken,
    #[error("too many commands")]
    Commands,
    #[error("media before it was asked whether it is wanted")]
    NotPublishing,
}

impl Violation {
    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NotRtmp | Self::Tls => "not_rtmp",
            Self::ChunkStreams => "chunk_streams",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Command => "amf",
            Self::Broken => "broken",
            Self::Commands => "commands",
            Self::NotPublishing => "not_publishing",
        }
    }
}
