//! The `crest` program. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod allocator;
mod cli;
mod config;
mod data_dir;
mod demo;
mod descriptors;
mod doctor;
mod eval;
mod http;
mod listen;
mod process;
mod roles;
mod serve;
mod stop;
mod telemetry;
mod usage;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The only TLS provider that is linked; a second installation attempt is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ended = run(cli.command);
    telemetry::flush();
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            telemetry::failed(&error);
            ExitCode::from(if error.is::<usage::Usage>() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Serve { config, roles } => {
            allocator::set_up();
            let config = config::load(config.as_deref())?;
            let runtime = runtime()?;
            let served = runtime.block_on(serve::run(config, &roles));
            // Not waited for: a clip that is being cut, a read that hangs. It is done again after the start.
            runtime.shutdown_background();
            served.map(|()| true)
        }
        Command::Process { input, out, chat, dimensions, audio_track } => {
            let request = process::Request { input, out, chat, dimensions, audio_track };
            process::run(&request).map(|()| true)
        }
        Command::Demo { seed, bus, config, out } => {
            let bus = match bus {
                cli::BusKind::Embedded => config::BusKind::Embedded,
                cli::BusKind::Kafka => config::BusKind::Kafka,
            };
            runtime()?.block_on(demo::run(demo::DemoOptions { seed, bus, config, out }))
        }
        Command::Eval { predictions, labels } => eval::run(&predictions, &labels).map(|()| true),
        Command::Listen { url, key, forward, types, after, secret, format } => {
            let options = listen::Options { url, key, forward, types, after, secret, format };
            runtime()?.block_on(listen::run(options))
        }
        Command::Doctor { config, format } => runtime()?.block_on(doctor::run(config.as_deref(), format)),
        Command::Openapi => {
            println!("{}", crest_control_api::openapi().to_pretty_json()?);
            Ok(true)
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
