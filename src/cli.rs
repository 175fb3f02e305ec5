//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Finds highlights in live broadcasts: feeds in, clips and signed webhooks out.
#[derive(Debug, Parser)]
#[command(name = "crest", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A synthetic broadcast with known highlights through the whole system
    Demo {
        /// Changes the script: moments, decoys, loudness, lag, lengths
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Which bus to run on; kafka: five processes on Kafka, PostgreSQL and S3
        #[arg(long, value_enum, default_value_t = BusKind::Embedded)]
        bus: BusKind,
        /// With --bus kafka: the configuration (TOML) that names bus.brokers, database.url and storage.url;
        /// without them the demo starts its own (`make setup` installs what that needs)
        #[arg(long)]
        config: Option<PathBuf>,
        /// Where the broadcast, the clips and the report go
        #[arg(long, default_value = "demo-out")]
        out: PathBuf,
    },
    /// Receives feeds, finds highlights, delivers clips and webhooks
    Serve {
        /// The configuration file (TOML); every key can be set as CREST_SECTION__KEY too
        #[arg(long)]
        config: Option<PathBuf>,
        /// Which roles run in this process: all, or a list of ingest, analyze, fuse, deliver, api
        #[arg(long, default_value = "all")]
        roles: String,
    },
    /// Finds the highlights of a file, as fast as it can be read
    Process {
        /// The file, or an http(s) address of one
        input: Option<String>,
        /// Where highlights.json, the clips, signals.parquet and report.html go
        #[arg(long)]
        out: PathBuf,
        /// Chat as JSON lines: {"t": seconds, "user", "text"}; with a file or alone
        #[arg(long)]
        chat: Option<PathBuf>,
        /// A dimension set as JSON
        #[arg(long)]
        dimensions: Option<PathBuf>,
        /// Which audio track of the file is analysed and clipped, counted from 0
        #[arg(long)]
        audio_track: Option<u8>,
    },
    /// Precision, recall, F1 and average precision of highlights against labelled windows
    Eval {
        /// highlights.json
        predictions: PathBuf,
        /// [[start_s, end_s], ...]
        labels: PathBuf,
    },
    /// Receives an organization's events on a machine that nobody can reach, prints or forwards them
    Listen {
        /// Where crest is
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        url: String,
        /// An API key of the organization
        #[arg(long, env = "CREST_API_KEY", hide_env_values = true)]
        key: Option<String>,
        /// Send each event to this URL too, as a signed webhook; one that fails is sent again until a 2xx
        #[arg(long)]
        forward: Option<String>,
        /// Only events of these types, separated by commas: highlight.ready,stream.ended
        #[arg(long, value_delimiter = ',')]
        types: Vec<String>,
        /// Go on after the event with this id, or 0: everything that is still kept; without it, begin now
        #[arg(long)]
        after: Option<String>,
        /// Sign what is forwarded with this secret, whsec_...; without it, with one that is made once and kept
        #[arg(long, hide_env_values = true)]
        secret: Option<String>,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = crate::listen::Format::Text)]
        format: crate::listen::Format,
    },
    /// What is missing or wrong on this machine, and the command that mends it
    Doctor {
        /// The configuration file (TOML) that `crest serve` is to run with
        #[arg(long)]
        config: Option<PathBuf>,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = crate::doctor::Format::Text)]
        format: crate::doctor::Format,
    },
    /// The API description on standard output
    Openapi,
}

/// Where records move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BusKind {
    /// In this process, in the data directory
    Embedded,
    /// Apache Kafka
    Kafka,
}
