//! How many feeds a machine carries: what crest costs with 1080p60 feeds from paced publishers, against the least that
//! decoding their keyframes costs and against decoding every frame, in the same run.
//! `benches/README.md` says how to run it, `docs/performance.md` what came of it.

mod churn;
#[path = "../soak/crest.rs"]
#[allow(dead_code)] // the soak gives each stream an organization
mod crest;
mod files;
mod flv;
mod load;
mod media;
mod proc;
mod reference;
mod report;
mod rtmp;
mod server;
mod stages;
#[path = "../bus/table.rs"]
#[allow(dead_code)] // the bus has contests
mod table;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use report::Report;

/// What a feed costs.
#[derive(Debug, Parser)]
#[command(name = "density")]
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
    /// The program that is measured.
    #[arg(long, global = true, default_value = env!("CARGO_BIN_EXE_crest"))]
    pub crest: PathBuf,
    /// Where the logs of the servers go.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/density"))]
    pub out: PathBuf,
    /// Seconds that are measured with each number of feeds.
    #[arg(long, global = true, default_value_t = 30)]
    pub seconds: u64,
    /// Rounds of what is compared with; the figures are medians.
    #[arg(long, global = true, default_value_t = 3)]
    pub rounds: usize,
    /// Tells processor time by stage, with `perf`.
    #[arg(long, global = true)]
    pub stages: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Live feeds.
    Live {
        /// Numbers of feeds, one run each.
        #[arg(long, value_delimiter = ',', default_value = "1,10,50,100")]
        feeds: Vec<usize>,
    },
    /// Memory after feeds have come and gone.
    Churn {
        /// Feeds.
        #[arg(long, default_value_t = 1000)]
        count: usize,
        /// Feeds at a time.
        #[arg(long, default_value_t = 50)]
        at_once: usize,
    },
    /// A file.
    Process {
        /// Its length in minutes.
        #[arg(long, default_value_t = 30)]
        minutes: u32,
    },
    /// Publishes an FLV file to `HOST:PORT`: what the others start.
    #[command(hide = true)]
    Publish { file: PathBuf, server: String },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The only TLS provider that is linked; reqwest wants one even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match &cli.part {
        Some(Part::Publish { file, server }) => load::run(file, server),
        _ => run(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("density: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(cli: &Cli) -> Result<()> {
    let common = &cli.common;
    std::fs::create_dir_all(&common.out)?;
    let feed = media::feed().await?;
    match &cli.part {
        Some(Part::Live { feeds }) => live(common, &feed, feeds).await,
        Some(Part::Churn { count, at_once }) => {
            println!("\n{}", churn::run(common, &feed, *count, *at_once).await?);
            Ok(())
        }
        Some(Part::Process { minutes }) => {
            println!("\n{}", files::run(common, &feed, *minutes).await?);
            Ok(())
        }
        // The short form.
        _ => {
            live(common, &feed, &[1, 10]).await?;
            println!("\n{}", churn::run(common, &feed, 60, 20).await?);
            println!("\n{}", files::run(common, &feed, 2).await?);
            Ok(())
        }
    }
}

/// What it is compared with is measured before each number of feeds, so that what else the machine does meets both.
async fn live(common: &Common, feed: &Path, feeds: &[usize]) -> Result<()> {
    /// Long enough for a pipeline's start not to matter.
    const FLOOR: u32 = 100;
    let long = media::looped(feed, FLOOR, "flv").await?;
    let mut report = Report::default();
    for &count in feeds {
        for _ in 0..common.rounds {
            report.floor.push(reference::floor(&long).await? / f64::from(FLOOR));
        }
        report.decode.push(reference::decode(feed).await? / f64::from(media::SECONDS));
        eprintln!("{count} feeds");
        report.runs.push(server::run(common, &long, count).await?);
    }
    println!("\n{}", report.tables());
    Ok(())
}
