//! How much the real `crest serve` holds while streams come and go, and while one goes on and on.
//! `benches/README.md` says how to run it and how to read what it writes.

mod crest;
mod fit;
mod media;
mod modes;
mod plot;
mod receiver;
mod sample;
mod stream;
mod verdict;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Memory, threads and descriptors of `crest serve` over time.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Cli {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    common: Common,
    /// What `cargo bench` adds.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// What every mode needs.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The program that is measured.
    #[arg(long, global = true, default_value = env!("CARGO_BIN_EXE_crest"))]
    pub crest: PathBuf,
    /// Where the figures, the plot and the server's log go.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/soak"))]
    pub out: PathBuf,
    /// Seconds between two looks at `/metrics`. Rarely, as little else makes a server without a monitor
    /// grow.
    #[arg(long, global = true, default_value_t = 30)]
    pub scrape: u64,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Streams come and go, in rounds: the second round must add nothing to what the first left.
    Streams {
        /// Streams of a round.
        #[arg(long, default_value_t = 200)]
        count: usize,
        /// Rounds.
        #[arg(long, default_value_t = 2)]
        rounds: usize,
        /// Streams at a time.
        #[arg(long, default_value_t = 6)]
        at_once: usize,
        /// Seconds of rest before the first round and after each.
        #[arg(long, default_value_t = 60)]
        rest: u64,
    },
    /// One stream at its own pace.
    Hour {
        /// Seconds.
        #[arg(long, default_value_t = 3600)]
        length: u64,
    },
    /// Draws what the runs wrote, finished or not, and says what follows from it.
    Plot {
        /// Keeps one row in so many of the files, for keeping them.
        #[arg(long, default_value_t = 1)]
        thin: usize,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The only TLS provider that is linked; reqwest wants one even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let common = &cli.common;
    std::fs::create_dir_all(&common.out)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.mode {
        Some(Mode::Streams { count, rounds, at_once, rest }) => {
            let rest = Duration::from_secs(rest);
            runtime.block_on(modes::streams(common, count, rounds, at_once, rest))?;
        }
        Some(Mode::Hour { length }) => runtime.block_on(modes::hour(common, Duration::from_secs(length)))?,
        Some(Mode::Plot { thin }) => return plot::of_folder(&common.out, thin),
        // The short form: too short to tell a slow leak from noise, long enough to see a gross one.
        None => {
            runtime.block_on(modes::streams(common, 18, 2, 6, Duration::from_secs(20)))?;
            runtime.block_on(modes::hour(common, Duration::from_secs(90)))?;
        }
    }
    plot::of_folder(&common.out, 1)
}
