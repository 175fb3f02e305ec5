//! Settings of the ingesting role: feeds, the RTMP listener, retention.

use bytesize::ByteSize;
use crest_core::units::Span;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// How feeds are run.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// How long a broken feed may be away before its stream is over.
    pub reconnect: Span,
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
        }
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
