//! How much the buses carry: Kafka against what its own tools reach on the same broker in the same run,
//! memory against backlog, and signals a second through each bus and fusion.
//! `benches/README.md` says how to run it and how to read what it prints.

mod append;
mod broker;
#[path = "../../fusion/tests/it/logs.rs"]
#[allow(dead_code)] // fusion's tests use more of it
mod logs;
mod memory;
mod read;
mod signals;
mod table;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

use broker::Broker;
use table::Table;

/// Throughput and memory of the buses.
#[derive(Debug, Parser)]
#[command(name = "bus")]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    common: Common,
    /// What `cargo bench` adds.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// What every part needs.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Records of a round.
    #[arg(long, global = true, default_value_t = 500_000)]
    pub records: u64,
    /// Bytes of a record.
    #[arg(long, global = true, default_value_t = 1024)]
    pub bytes: usize,
    /// Rounds; the figures are medians.
    #[arg(long, global = true, default_value_t = 5)]
    pub rounds: usize,
    /// Records of the small backlog; the large one has twenty times as many.
    #[arg(long, global = true, default_value_t = 100_000)]
    pub backlog: u64,
    /// Streams whose signals are applied.
    #[arg(long, global = true, default_value_t = 1000)]
    pub streams: usize,
    /// Leaves out Kafka: signals through the embedded bus alone.
    #[arg(long, global = true)]
    pub embedded_only: bool,
    /// Seconds of each stream.
    #[arg(long, global = true, default_value_t = 120)]
    pub seconds: u64,
    /// Where the broker and the embedded bus have their files; gigabytes of them, for a while.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/bus"))]
    pub out: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Appending against the producer of Kafka's own tools.
    Append,
    /// Reading against the consumer of Kafka's own tools.
    Read,
    /// Memory of a reader with a small and a large backlog.
    Memory,
    /// Signals a second through bus and fusion.
    Signals,
    /// Reads a backlog and says how much memory that took: what `memory` starts.
    #[command(hide = true)]
    Reader { brokers: String, prefix: String, group: String },
}

type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from);
    match runtime.and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    let common = cli.common;
    if let Some(Part::Reader { brokers, prefix, group }) = cli.part {
        return memory::reader(&brokers, &prefix, &group, common.records).await;
    }
    std::fs::create_dir_all(&common.out)?;
    if common.embedded_only {
        println!("\n{}", signals::run(None, &common).await?);
        return Ok(());
    }
    let broker = Broker::start(&common.out)?;
    let mut tables: Vec<Table> = Vec::new();
    if matches!(cli.part, None | Some(Part::Append)) {
        tables.push(append::run(&broker, &common).await?);
    }
    if matches!(cli.part, None | Some(Part::Read)) {
        tables.push(read::run(&broker, &common).await?);
    }
    if matches!(cli.part, None | Some(Part::Memory)) {
        tables.push(memory::run(&broker, &common).await?);
    }
    if matches!(cli.part, None | Some(Part::Signals)) {
        tables.push(signals::run(Some(&broker), &common).await?);
    }
    for table in tables {
        println!("\n{table}");
    }
    Ok(())
}
