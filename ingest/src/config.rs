//! Settings of the ingesting role: feeds, the listeners, retention.

use bytesize::ByteSize;
use crest_core::units::Span;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How feeds are run.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// How long a broken feed may be away before its stream is over.
    pub reconnect: Span,
    /// How much media of a publisher that begins between two keyframes is taken without its picture, until one comes.
    /// Longer than the 250 pictures that encoders leave between two by default; a feed that has none begins then.
    pub keyframe_wait: Span,
    /// Encoded packets of one feed that may wait to be sampled; above it the oldest are dropped.
    pub sampler_queue: usize,
    /// Bytes of encoded packets of one feed that may wait to be sampled.
    pub sampler_queue_bytes: ByteSize,
    /// Segment files that are uploaded at the same time, where they do not stay in the data directory.
    pub uploads: usize,
    /// Closed segment files whose contents are remembered until they are uploaded; those of more are read
    /// again from the disk when it is their turn.
    pub upload_queue: usize,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            reconnect: Span::secs(60),
            keyframe_wait: Span::secs(12),
            sampler_queue: 1024,
            sampler_queue_bytes: ByteSize::mib(32),
            uploads: 4,
            upload_queue: 1024,
        }
    }
}

/// The RTMP listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RtmpConfig {
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What publishers are told to connect to, where that differs: `rtmp://live.example/live`.
    pub public_url: Option<String>,
    /// Where it listens for RTMP over TLS as well, `0.0.0.0:4433` for instance; not at all where it is not set.
    pub tls_listen: Option<SocketAddr>,
    /// PEM file with the certificate for TLS and those that lead from it to one that publishers trust.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// How often it is looked whether these two files have changed: a renewed certificate is used from then on.
    pub tls_reload: Span,
    /// What publishers are told to connect to over TLS, where that differs: `rtmps://live.example/live`.
    pub tls_public_url: Option<String>,
    /// Connections at a time, over TLS or not, publishing or not. When there are more, one that does not publish makes room;
    /// where all do, the new one is closed.
    pub max_connections: usize,
    /// A connection that does not publish within this time is closed.
    pub handshake: Span,
    /// A publisher that sends no media for this long is taken for gone.
    pub idle: Span,
    /// The largest audio or video message that is accepted; larger ones are dropped and counted.
    pub max_frame: ByteSize,
    /// How often what publishers sent is read; 0 reads it as it arrives, and costs more.
    pub gather: Span,
}

impl Default for RtmpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1935)),
            public_url: None,
            tls_listen: None,
            tls_certificate: None,
            tls_key: None,
            tls_reload: Span::secs(60),
            tls_public_url: None,
            max_connections: 256,
            handshake: Span::secs(10),
            idle: Span::secs(15),
            max_frame: ByteSize::mib(8),
            gather: Span(Duration::from_millis(40)),
        }
    }
}

/// The SRT listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SrtConfig {
    /// Where it listens, over UDP; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What publishers are told to connect to, where that differs: `srt://live.example:8890`.
    pub public_url: Option<String>,
    /// Protects the media of all publishers, 10 to 79 bytes. Publishers without it are refused; where it is not set,
    /// those with one are.
    pub passphrase: Option<Passphrase>,
    /// How long the library waits for packets that were lost to come again, unless the publisher asks for longer.
    pub latency: Span,
    /// Connections at a time, publishing or not. When there are more, one that does not publish makes room;
    /// where all do, the new one is closed. Each has two threads.
    pub max_connections: usize,
    /// A connection that is not admitted within this time is closed.
    pub handshake: Span,
    /// A publisher that sends no media for this long is taken for gone. One of which nothing at all is heard is gone
    /// after 5 seconds.
    pub idle: Span,
}

impl Default for SrtConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8890)),
            public_url: None,
            passphrase: None,
            latency: Span(Duration::from_millis(200)),
            max_connections: 128,
            handshake: Span::secs(10),
            idle: Span::secs(15),
        }
    }
}

/// WebRTC publishers, which WHIP lets in on the HTTP port.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebRtcConfig {
    /// The UDP address that the media of all sessions arrives at; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where publishers reach this machine, behind NAT or with several addresses: they are told these, on the port
    /// of `listen`, in place of the addresses that the machine has itself.
    pub public_ips: Vec<IpAddr>,
    /// What publishers are told to send their offers to, where that is not this process's own HTTP address:
    /// `https://live.example/whip`.
    pub public_url: Option<String>,
    /// Sessions at a time; more are refused.
    pub max_sessions: usize,
    /// The largest offer that is read.
    pub max_offer: ByteSize,
    /// A publisher that sends no media for this long is taken for gone; so is one that does not connect.
    pub idle: Span,
    /// How long a packet that is missing is waited for, before what follows goes on without it.
    pub jitter: Span,
    /// How often a keyframe is asked for. Browsers send none otherwise; a clip can begin at a keyframe only.
    pub keyframe_interval: Span,
    /// Datagrams of one session that may wait while its feed is busy; those above it are dropped.
    pub queue: usize,
}

impl Default for WebRtcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8189)),
            public_ips: Vec::new(),
            public_url: None,
            max_sessions: 256,
            max_offer: ByteSize::kib(64),
            idle: Span::secs(15),
            jitter: Span::secs(1),
            keyframe_interval: Span::secs(2),
            queue: 2048,
        }
    }
}

/// A passphrase; it does not show when it is printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Passphrase(pub String);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// How long stored media is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Segments older than this are removed.
    pub media: Span,
    /// The oldest segments are removed while the volume of the data directory has less free space than
    /// this; half of the volume, where that is less.
    pub free_space: ByteSize,
    /// How often this is looked at; at once where the reserve is reached.
    pub interval: Span,
    /// With less free space than this, media is not stored any more and new feeds are refused; a tenth
    /// of the volume, where that is less. Clips wait from a quarter of it on.
    pub reserve: ByteSize,
    /// Size of a file that is given up when there is nothing left, so that decisions can still be kept
    /// for a while; a fiftieth of the volume, where that is less. 0: none.
    pub ballast: ByteSize,
    /// How often the free space is looked at.
    pub watch: Span,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            media: Span::secs(12 * 3600),
            free_space: ByteSize::gb(10),
            interval: Span::secs(60),
            reserve: ByteSize::gb(1),
            ballast: ByteSize::mb(64),
            watch: Span::secs(1),
        }
    }
}
