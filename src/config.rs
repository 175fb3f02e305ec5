//! The configuration: one TOML file, read once, and `CREST_SECTION__KEY` on top of it.

use anyhow::Context;
use crest_core::units::Span;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

use crate::usage::Usage;

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
    /// Feeds.
    pub ingest: crest_ingest::IngestConfig,
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
    /// SRT publishers; not in this version.
    pub srt: Reserved,
    /// WHIP publishers; not in this version.
    pub webrtc: Reserved,
    /// Another database than the one in the data directory; not in this version.
    pub database: Reserved,
    /// Another object storage than the data directory; not in this version.
    pub storage: Reserved,
    /// Set from `CREST_DATA_DIR`.
    #[serde(skip)]
    pub data_dir: PathBuf,
    /// Set from `CREST_BOOTSTRAP_KEY`.
    #[serde(skip)]
    pub bootstrap_key: Option<String>,
}

/// Keys that later versions use. Setting them is no error, so that one configuration fits both; what
/// they ask for is named at start as not available.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Reserved {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// Where it is.
    pub url: Option<String>,
}

impl Config {
    /// The keys that are set and have no effect in this version.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let keys = [
            ("srt.listen", self.srt.listen.is_some()),
            ("webrtc.listen", self.webrtc.listen.is_some()),
            ("database.url", self.database.url.is_some()),
            ("storage.url", self.storage.url.is_some()),
            ("bus.brokers", !self.bus.brokers.is_empty()),
        ];
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
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// `embedded`.
    pub kind: String,
    /// Addresses of Kafka brokers; not in this version.
    pub brokers: Vec<String>,
    /// Bounds of the embedded bus.
    pub embedded: crest_bus::BusConfig,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self { kind: "embedded".to_owned(), brokers: Vec::new(), embedded: crest_bus::BusConfig::default() }
    }
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

/// Reads the file, if one is named, and the environment.
pub fn load(path: Option<&Path>) -> anyhow::Result<Config> {
    let table = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration {}", path.display()))?;
            text.parse::<Table>().map_err(|e| Usage(format!("{} is not TOML: {e}", path.display())))?
        }
        None => Table::new(),
    };
    parse(table, std::env::vars())
}

fn parse(mut table: Table, vars: impl Iterator<Item = (String, String)>) -> anyhow::Result<Config> {
    let (mut data_dir, mut bootstrap_key) = (PathBuf::from("crest-data"), None);
    for (name, value) in vars {
        match name.strip_prefix("CREST_") {
            Some("DATA_DIR") => data_dir = PathBuf::from(value),
            Some("BOOTSTRAP_KEY") => bootstrap_key = Some(value),
            Some(key) if key.contains("__") => set(&mut table, &name, key, &value)?,
            _ => {}
        }
    }
    let mut config: Config = Value::Table(table).try_into().map_err(|e: toml::de::Error| {
        Usage(format!("the configuration is wrong: {}", e.to_string().trim().replace('\n', " ")))
    })?;
    config.data_dir = data_dir;
    config.bootstrap_key = bootstrap_key.filter(|key| !key.is_empty());
    if config.bus.kind != "embedded" {
        let message = format!("bus.kind is '{}', but this version knows 'embedded' only", config.bus.kind);
        return Err(Usage(message).into());
    }
    check(&config)?;
    Ok(config)
}

/// Bounds that no part of crest can work without.
fn check(config: &Config) -> Result<(), Usage> {
    let counts = [
        ("segments.fragment_bytes", config.segments.fragment_bytes as u128),
        ("segments.fragment", config.segments.fragment.0.as_millis()),
        ("segments.segment", config.segments.segment.0.as_millis()),
        ("decoder.workers", config.decoder.workers as u128),
        ("decoder.queue", config.decoder.queue as u128),
        ("ingest.sampler_queue", config.ingest.sampler_queue as u128),
        ("rtmp.max_connections", config.rtmp.max_connections as u128),
        ("http.max_connections", config.http.max_connections as u128),
        ("http.idle", config.http.idle.0.as_millis()),
        ("log.causes", config.log.causes as u128),
        ("api.max_page", u128::from(config.api.max_page)),
        ("api.max_body_bytes", config.api.max_body_bytes as u128),
        ("api.event_poll", config.api.event_poll.0.as_millis()),
        ("api.event_heartbeat", config.api.event_heartbeat.0.as_millis()),
        ("store.keep_events", config.store.keep_events.0.as_millis()),
        ("store.prune_interval", config.store.prune_interval.0.as_millis()),
        ("store.prune_batch", u128::from(config.store.prune_batch)),
        ("api.max_chat_messages", config.api.max_chat_messages as u128),
        ("clips.workers", config.clips.workers as u128),
        ("webhooks.concurrency", config.webhooks.concurrency as u128),
        ("webhooks.timeout", config.webhooks.timeout.0.as_millis()),
    ];
    if let Some((key, _)) = counts.iter().find(|(_, value)| *value == 0) {
        return Err(Usage(format!("{key} must be more than 0")));
    }
    if config.api.event_heartbeat > Span::secs(30) {
        return Err(Usage("api.event_heartbeat must be at most 30s: clients wait for a minute".to_owned()));
    }
    let url = |key: &str, value: &Option<String>, schemes: [&str; 2]| match value {
        Some(value) if !schemes.iter().any(|scheme| value.starts_with(scheme)) => {
            Err(Usage(format!("{key} is '{value}', but must begin with {}", schemes.join(" or "))))
        }
        _ => Ok(()),
    };
    url("http.public_url", &config.http.public_url, ["http://", "https://"])?;
    url("rtmp.public_url", &config.rtmp.public_url, ["rtmp://", "rtmps://"])
}

/// Keys whose values are lists.
const LISTS: [&str; 2] = ["webhooks.retry", "bus.brokers"];

/// Puts one environment override into the table.
fn set(table: &mut Table, name: &str, key: &str, value: &str) -> Result<(), Usage> {
    let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
    let (last, sections) = path.split_last().ok_or_else(|| Usage(format!("{name} names no key")))?;
    let mut section = table;
    for part in sections {
        let entry = section.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
        section = entry.as_table_mut().ok_or_else(|| Usage(format!("{name}: '{part}' is not a section")))?;
    }
    let value = if LISTS.contains(&path.join(".").as_str()) {
        Value::Array(value.split(',').map(|item| Value::String(item.trim().to_owned())).collect())
    } else {
        scalar(value)
    };
    section.insert(last.clone(), value);
    Ok(())
}

/// A number or a truth value where the text is one, else the text.
fn scalar(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::Integer(number);
    }
    match text {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => text.parse::<f64>().map_or_else(|_| Value::String(text.to_owned()), Value::Float),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> anyhow::Result<Config> {
        parse(Table::new(), vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_environment_overrides_and_other_names_are_ignored() {
        let config = with(&[
            ("CREST_HTTP__LISTEN", "127.0.0.1:0"),
            ("CREST_WEBHOOKS__ALLOW_PRIVATE", "true"),
            ("CREST_WEBHOOKS__RETRY", "1s, 5s,2m"),
            ("CREST_DATA_DIR", "/somewhere"),
            ("CREST_SERVICE_PORT", "ignored"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.http.listen.port(), 0);
        assert!(config.webhooks.allow_private);
        assert_eq!(config.webhooks.retry.len(), 3);
        assert_eq!(config.data_dir, PathBuf::from("/somewhere"));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_named() {
        let unknown = with(&[("CREST_HTTP__LISTNE", "127.0.0.1:0")]).unwrap_err().to_string();
        assert!(unknown.contains("listne"), "{unknown}");
        let wrong = with(&[("CREST_WEBHOOKS__RETRY", "soon")]).unwrap_err().to_string();
        assert!(wrong.contains("soon"), "{wrong}");
        assert!(with(&[("CREST_BUS__KIND", "pigeon")]).is_err());
        let none = with(&[("CREST_DECODER__WORKERS", "0")]).unwrap_err().to_string();
        assert!(none.contains("decoder.workers"), "{none}");
        assert!(with(&[("CREST_HTTP__PUBLIC_URL", "crest.example")]).is_err());
    }

    #[test]
    fn keys_of_later_versions_are_taken_and_named() {
        let config = with(&[("CREST_SRT__LISTEN", "127.0.0.1:0"), ("CREST_BUS__BROKERS", "a:9092,b:9092")]).unwrap();
        assert_eq!(config.without_effect(), ["srt.listen", "bus.brokers"]);
    }
}
