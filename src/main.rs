//! The `crest` program. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod cli;
mod config;
mod demo;
mod eval;
mod process;
mod roles;
mod serve;
mod telemetry;
mod usage;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The only TLS provider that is linked; a second installation attempt is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crest: {error:#}");
            ExitCode::from(if error.is::<usage::Usage>() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Serve { config, roles } => {
            let config = config::load(config.as_deref())?;
            runtime()?.block_on(serve::run(config, &roles)).map(|()| true)
        }
        Command::Process { input, out, chat, dimensions } => {
            let request = process::Request { input, out, chat, dimensions };
            process::run(&request).map(|()| true)
        }
        Command::Demo { seed, bus, out } => {
            let bus = match bus {
                cli::BusKind::Embedded => "embedded",
                cli::BusKind::Kafka => "kafka",
            };
            runtime()?.block_on(demo::run(demo::DemoOptions { seed, bus: bus.to_owned(), out }))
        }
        Command::Eval { predictions, labels } => eval::run(&predictions, &labels).map(|()| true),
        Command::Openapi => {
            println!("{}", crest_control_api::openapi().to_pretty_json()?);
            Ok(true)
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
