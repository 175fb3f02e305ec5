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
        /// Which bus to run on
        #[arg(long, value_enum, default_value_t = BusKind::Embedded)]
        bus: BusKind,
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
    },
    /// Precision, recall, F1 and average precision of highlights against labelled windows
    Eval {
        /// highlights.json
        predictions: PathBuf,
        /// [[start_s, end_s], ...]
        labels: PathBuf,
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
