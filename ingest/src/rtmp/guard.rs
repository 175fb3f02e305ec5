//! Stands between a peer and `rtmp-rs`, which reserves memory for as many and as long messages as
//! anybody announces: 1 MB from a stranger makes it map 1 TB. The guard follows the chunk layer and
//! lets through only what stays within bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::amf;

/// C0, C1 and C2.
const HANDSHAKE: usize = 1 + 1536 + 1536;
/// Chunk streams of one connection; publishers use five or so.
const CHUNK_STREAMS: usize = 32;
/// What the library takes for the largest chunk.
const MAX_CHUNK: usize = 0xff_ffff;
/// The version of RTMP that there is; encrypted ones were never used.
const VERSION: u8 = 3;
/// What the commands of one connection may cost, each its length and something for being one. The library
/// remembers what some of them name for as long as the connection lasts.
const COMMANDS: usize = 1024 * 1024;
const COMMAND: usize = 1024;
/// How TLS begins.
const TLS: u8 = 0x16;
const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const DATA_AMF3: u8 = 15;
const COMMAND_AMF3: u8 = 17;
const DATA: u8 = 18;
const COMMAND_AMF0: u8 = 20;
const BUFFER: usize = 32 * 1024;
const PAIRING: Duration = Duration::from_secs(5);
/// How long a peer may take to read why it was refused.
const LINGER: Duration = Duration::from_secs(2);

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
    #[error("too many commands")]
    Commands,
    #[error("the connection was lost")]
    Lost,
}

impl Violation {
    /// Its name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NotRtmp | Self::Tls => "not_rtmp",
            Self::ChunkStreams => "chunk_streams",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Command => "amf",
            Self::Commands => "commands",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug, Default)]
struct ChunkStream {
    length: usize,
    remaining: usize,
    kind: u8,
    extended: bool,
    /// What the guard has to know of the message: all of a command, the number in a control message.
    kept: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Handshake(usize),
    Header,
    Data(u32, usize),
}

/// Follows the bytes that a peer sends.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Bytes that the messages in progress may announce together.
    allowance: Arc<AtomicUsize>,
    announced: usize,
    /// What the commands so far have cost.
    commands: usize,
    chunk_size: usize,
    streams: HashMap<u32, ChunkStream>,
    header: Vec<u8>,
    expect: Expect,
}

impl ChunkStream {
    /// How much of the message the guard has to know.
    fn keeps(&self) -> usize {
        match self.kind {
            SET_CHUNK_SIZE | ABORT => 4,
            DATA_AMF3 | COMMAND_AMF3 | DATA | COMMAND_AMF0 => amf::MAX_BYTES,
            _ => 0,
        }
    }

    fn is_command(&self) -> bool {
        matches!(self.kind, COMMAND_AMF3 | COMMAND_AMF0)
    }
}

impl Guard {
    /// The allowance may be raised later, once the peer is known.
    pub(crate) fn new(allowance: Arc<AtomicUsize>) -> Self {
        Self {
            allowance,
            announced: 0,
            commands: 0,
            chunk_size: 128,
            streams: HashMap::new(),
            header: Vec::with_capacity(18),
            expect: Expect::Handshake(HANDSHAKE),
        }
    }

    /// Looks at the next bytes; after a violation nothing more may be let through.
    pub(crate) fn check(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.expect {
                // Browsers, TLS clients and scanners are told apart by their first byte.
                Expect::Handshake(HANDSHAKE) if first == TLS => return Err(Violation::Tls),
                Expect::Handshake(HANDSHAKE) if first != VERSION => return Err(Violation::NotRtmp),
                Expect::Handshake(left) => {
                    let now = left.min(bytes.len());
                    bytes = bytes.get(now..).unwrap_or_default();
                    self.expect = if now == left { Expect::Header } else { Expect::Handshake(left - now) };
                }
                Expect::Header => {
                    self.header.push(first);
                    bytes = rest;
                    self.header()?;
                }
                Expect::Data(id, left) => {
                    let (now, later) = bytes.split_at(left.min(bytes.len()));
                    bytes = later;
                    self.data(id, left, now)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the chunk header as soon as all of it is there.
    fn header(&mut self) -> Result<(), Violation> {
        let (id, basic) = match *self.header.as_slice() {
            [first, low, high, ..] if first & 0x3f == 1 => (64 + u32::from(low) + u32::from(high) * 256, 3),
            [first, low, ..] if first & 0x3f == 0 => (64 + u32::from(low), 2),
            [first, ..] if first & 0x3f > 1 => (u32::from(first & 0x3f), 1),
            _ => return Ok(()),
        };
        let format = self.header.first().map_or(0, |first| first >> 6);
        let fields = [11, 7, 3, 0][usize::from(format)];
        let Some(message) = self.header.get(basic..basic + fields) else { return Ok(()) };
        if !self.streams.contains_key(&id) && self.streams.len() >= CHUNK_STREAMS {
            return Err(Violation::ChunkStreams);
        }
        let stream = self.streams.entry(id).or_default();
        let extended = if format == 3 { stream.extended } else { message.starts_with(&[0xff; 3]) };
        if self.header.len() < basic + fields + if extended { 4 } else { 0 } {
            return Ok(());
        }
        stream.extended = extended;
        if format != 3 && stream.remaining > 0 {
            // The library would take the new length for the old message's.
            return Err(Violation::Malformed);
        }
        if let &[_, _, _, a, b, c, kind, ..] = message {
            stream.length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            stream.kind = kind;
        }
        if stream.remaining == 0 {
            stream.remaining = stream.length;
            stream.kept.clear();
            if stream.length == 0 && matches!(stream.kind, AUDIO | VIDEO) {
                // The library keeps them to itself.
                metrics::counter!("crest_rtmp_tags_skipped_total", "cause" => "empty").increment(1);
            }
            if stream.is_command() {
                self.commands += COMMAND + stream.length;
            }
            if self.commands > COMMANDS {
                return Err(Violation::Commands);
            }
            if stream.keeps() == amf::MAX_BYTES && stream.length > amf::MAX_BYTES {
                return Err(Violation::Command);
            }
            self.announced += stream.length;
            if self.announced > self.allowance.load(Ordering::Relaxed) {
                return Err(Violation::TooLarge);
            }
        }
        let now = stream.remaining.min(self.chunk_size);
        self.header.clear();
        self.expect = if now == 0 { Expect::Header } else { Expect::Data(id, now) };
        Ok(())
    }

    fn data(&mut self, id: u32, left: usize, now: &[u8]) -> Result<(), Violation> {
        self.expect = if now.len() == left { Expect::Header } else { Expect::Data(id, left - now.len()) };
        let stream = self.streams.get_mut(&id).ok_or(Violation::Malformed)?;
        stream.remaining = stream.remaining.saturating_sub(now.len());
        let room = stream.keeps().saturating_sub(stream.kept.len());
        stream.kept.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
        if stream.remaining > 0 {
            return Ok(());
        }
        self.announced = self.announced.saturating_sub(stream.length);
        let kept = std::mem::take(&mut stream.kept);
        match stream.kind {
            SET_CHUNK_SIZE => self.set_chunk_size(&kept),
            // Nobody publishes that way, and forgetting half a message is hard to follow.
            ABORT => Err(Violation::Malformed),
            DATA | COMMAND_AMF0 if !amf::within_bounds(&kept) => Err(Violation::Command),
            // The library skips one byte that says which AMF follows, and reads the other.
            DATA_AMF3 | COMMAND_AMF3 if !amf::within_bounds(kept.strip_prefix(&[0]).unwrap_or(&kept)) => {
                Err(Violation::Command)
            }
            _ => Ok(()),
        }
    }

    fn set_chunk_size(&mut self, value: &[u8]) -> Result<(), Violation> {
        let value = <[u8; 4]>::try_from(value).map_or(0, u32::from_be_bytes) & 0x7fff_ffff;
        self.chunk_size = usize::try_from(value).unwrap_or(usize::MAX).min(MAX_CHUNK);
        if self.chunk_size == 0 { Err(Violation::Malformed) } else { Ok(()) }
    }
}

/// Two connected sockets on this machine.
pub(super) async fn pair() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let ours = near.local_addr()?;
    loop {
        let (far, from) = tokio::time::timeout(PAIRING, listener.accept()).await??;
        // Anybody on this machine could have been faster.
        if from == ours {
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            return Ok((near, far));
        }
    }
}

/// Carries bytes between the peer and the library until the library closes its end, or the peer
/// violates the bounds.
pub(super) async fn relay(
    mut peer: impl AsyncRead + AsyncWrite + Unpin,
    mut library: TcpStream,
    mut guard: Guard,
) -> Result<(), Violation> {
    let (mut from_peer, mut to_peer) = tokio::io::split(&mut peer);
    let (mut from_library, mut to_library) = library.split();
    let inbound = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            // A connection that breaks ends like one that is closed: what arrived before counts.
            let count = from_peer.read(&mut buffer).await.unwrap_or(0);
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            guard.check(bytes)?;
            if to_library.write_all(bytes).await.is_err() {
                // The library has closed; its last words are still on their way to the peer.
                return std::future::pending().await;
            }
        }
        // The library reads what it has, and then sees the end too.
        to_library.shutdown().await.map_err(|_| Violation::Lost)
    };
    let outbound = async {
        if tokio::io::copy(&mut from_library, &mut to_peer).await.is_err() {
            // The peer is gone. What it sent before counts, and the library has not read all of it yet.
            let _ = tokio::io::copy(&mut from_library, &mut tokio::io::sink()).await;
        }
    };
    tokio::select! {
        Err(violation) = inbound => return Err(violation),
        () = outbound => {}
    }
    // Whoever has not shaken hands was told nothing.
    if !matches!(guard.expect, Expect::Handshake(_)) {
        let _ = tokio::time::timeout(LINGER, linger(&mut peer)).await;
    }
    Ok(())
}

/// Closes so that the peer reads why: a socket that is closed with bytes unread resets the connection,
/// and a peer that is still writing would see that instead of the last answer.
async fn linger(peer: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    if peer.shutdown().await.is_err() {
        return;
    }
    let mut unread = vec![0; BUFFER];
    while peer.read(&mut unread).await.is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
#[path = "guard_fuzzing.rs"]
pub(crate) mod fuzzing;
