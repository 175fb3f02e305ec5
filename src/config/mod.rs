//! The configuration: one TOML file, read once, and `CREST_SECTION__KEY` on top of it.

mod check;
mod read;
mod roles;
mod secrets;

use crest_core::units::Span;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use check::fits;
pub use read::load;
pub use roles::{Role, Roles};

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP API.
    pub http: HttpConfig,
    /// Limits of the API.
    pub api: crest_control_api::ApiConfig,
    /// RTMP publishers.
    pub rtmp: crest_ingest::RtmpConfig,
    /// What feeds may take.
    pub limits: crest_ingest::LimitsConfig,
    /// Feeds that are pulled.
    pub pull: crest_ingest::PullConfig,
    /// Feeds that are relayed.
    pub forward: crest_ingest::ForwardConfig,
    /// Feeds.
    pub ingest: crest_ingest::IngestConfig,
    /// Twitch's API, which tells when channels go live.
    pub twitch: crest_ingest::TwitchApiConfig,
    /// Chats of platforms that crest follows.
    pub chat: crest_ingest::ChatConfig,
    /// How encoded media is cut into segments and fragments.
    pub segments: crest_media::SegmenterConfig,
    /// The shared decoder pool.
    pub decoder: crest_media::KeyframePoolConfig,
    /// How long media is kept.
    pub retention: crest_ingest::RetentionConfig,
    /// The bus.
    pub bus: BusConfig,
    /// Webhooks.
    pub webhooks: crest_sinks::WebhooksConfig,
    /// Clips.
    pub clips: crest_sinks::ClipsConfig,
    /// What the database remembers.
    pub store: StoreConfig,
    /// Logs.
    pub log: LogConfig,
    /// What `/metrics` shows.
    pub metrics: MetricsConfig,
    /// Another database than the file in the data directory.
    pub database: crest_store::DatabaseConfig,
    /// Another place for media and clips than the data directory.
    pub storage: crest_store::objects::StorageConfig,
    /// SRT publishers.
    pub srt: crest_ingest::SrtConfig,
    /// WebRTC publishers, over WHIP.
    pub webrtc: crest_ingest::WebRtcConfig,
    /// Set from `CREST_DATA_DIR`.
    #[serde(skip)]
    pub data_dir: PathBuf,
    /// Set from `CREST_BOOTSTRAP_KEY`.
    #[serde(skip)]
    pub bootstrap_key: Option<String>,
}

impl Config {
    /// The keys that are set and have no effect in this version, or with the others as they are.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let keys = [("bus.brokers", self.bus.kind == BusKind::Embedded && !self.bus.brokers.is_empty())];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
    }
}

/// The HTTP API.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen; port 0 picks a free one and prints it.
    pub listen: SocketAddr,
    /// How the API is reached from outside, for the addresses in events.
    pub public_url: Option<String>,
    /// Connections at a time; when there are more, one that is not being answered makes room.
    pub max_connections: usize,
    /// A connection that does not send the head of a request for this long is closed.
    pub idle: Span,
    /// A connection that takes nothing of its answer for this long is closed.
    pub stalled: Span,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            max_connections: 512,
            idle: Span::secs(30),
            stalled: Span::secs(60),
        }
    }
}

/// The bus.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// `embedded` or `kafka`.
    pub kind: BusKind,
    /// Addresses of Kafka brokers, `host:port`; some of them suffice.
    pub brokers: Vec<String>,
    /// How Kafka is used.
    pub kafka: crest_bus::KafkaConfig,
    /// What is kept while Kafka is away.
    pub spill: crest_bus::SpillConfig,
    /// Bounds of the embedded bus.
    pub embedded: crest_bus::BusConfig,
}

/// Where records move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum BusKind {
    /// In this process, in the data directory.
    #[default]
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// What `/metrics` shows.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// How long the series that name a stream stay after it is over: longer than a monitor waits between
    /// two looks.
    pub keep_streams: Span,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { keep_streams: Span::secs(120) }
    }
}

/// Logs, on standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A level, or directives such as `info,crest_ingest=debug`.
    pub level: String,
    /// How many causes are remembered to show one line a second of each; any further ones share a line
    /// with others from the same place in the program.
    pub causes: usize,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned(), causes: 1000 }
    }
}

/// What the database remembers of what is over.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// How long events, finished deliveries and jobs, and the steps of streams' states are kept.
    pub keep_events: Span,
    /// How often what is older is removed.
    pub prune_interval: Span,
    /// Rows of each kind that are removed at once; others write in between.
    pub prune_batch: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { keep_events: Span::secs(30 * 24 * 3600), prune_interval: Span::secs(3600), prune_batch: 500 }
    }
}
