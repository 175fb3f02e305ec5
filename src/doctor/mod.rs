//! `crest doctor`: what is missing or wrong on this machine, and the command that mends it.
//!
//! It changes nothing: no folder is made, no database opened for writing, and what is tried out is tried
//! out on a copy, or with a small object that is removed again. Each file here is one group of checks; `finding.rs` is what a check comes to.

mod bus;
mod clock;
mod configuration;
mod data_dir;
mod database;
mod disk;
mod finding;
mod gstreamer;
mod holder;
mod limits;
mod onnx;
mod ports;
mod print;
mod resolvers;
mod scratch;
mod services;

use clap::ValueEnum;
use std::io::Write;
use std::path::Path;

use crate::config::{self, BusKind, Config};
use crate::usage::Usage;
use finding::{Finding, State};
use holder::Holder;
use ports::Over;

/// For whom the findings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// People
    Text,
    /// Programs: a list of {"check", "state", "message", "mend"}
    Json,
}

/// Whether a crest uses the data directory now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Running {
    /// None.
    No,
    /// This process.
    As(Holder),
    /// One that does not show to this user.
    Somebody,
}

/// Looks at everything and prints it. `false` where something is wrong.
///
/// Fails, after the findings that do not depend on it, where the configuration cannot be used.
pub async fn run(path: Option<&Path>, format: Format) -> anyhow::Result<bool> {
    let config = config::load(path);
    let mut findings = match &config {
        Ok(config) => {
            let mut findings = vec![configuration::read(path, config)];
            findings.extend(configured(config).await);
            findings
        }
        Err(error) => vec![configuration::refused(path, error)],
    };
    findings.extend(gstreamer::gstreamer());
    findings.push(onnx::onnxruntime().await);
    findings.push(gstreamer::ffmpeg());

    let mut out = std::io::stdout().lock();
    match format {
        Format::Text => print::text(&findings, &mut out)?,
        Format::Json => print::json(&findings, &mut out)?,
    }
    out.flush()?;
    match config {
        Ok(_) => Ok(findings.iter().all(|finding| finding.state != State::Wrong)),
        Err(_) => Err(Usage("the configuration cannot be used".to_owned()).into()),
    }
}

/// Whether a crest has the data directory in use: it holds one lock in it itself, and the bus another.
fn running(data_dir: &Path) -> Running {
    let locks = [data_dir.join(crate::data_dir::LOCK), crest_bus::check::lock_file(&data_dir.join("bus"))];
    match locks.iter().find(|file| holder::is_locked(file)) {
        Some(file) => holder::of_lock(file).map_or(Running::Somebody, Running::As),
        None => Running::No,
    }
}

/// What depends on the configuration.
async fn configured(config: &Config) -> Vec<Finding> {
    let data_dir = &config.data_dir;
    let running = running(data_dir);
    let mut findings = Vec::new();
    match data_dir::look(data_dir) {
        Ok(place) => {
            findings.push(match crate::data_dir::check_format(data_dir) {
                Err(error) if place.there => data_dir::format(&error),
                _ => data_dir::writable(&place),
            });
            findings.extend(data_dir::permissions(&place));
            if let Ok(volume) = disk::look(&place.nearest) {
                findings.push(disk::judge(&volume, data_dir, &config.retention));
            }
            findings.push(match config.storage.is_remote() {
                true => services::storage(config).await,
                false => data_dir::storage(&place),
            });
        }
        Err(error) => {
            let message = format!("CREST_DATA_DIR '{}': {error}", data_dir.display());
            findings.push(Finding::wrong("data-directory", message, "export CREST_DATA_DIR=\"$HOME/crest-data\""));
        }
    }
    findings.push(match config.database.url {
        Some(_) => services::database(&config.database).await,
        None => database::database(data_dir, &running).await,
    });
    findings.push(match config.bus.kind {
        BusKind::Kafka => services::bus(&config.bus).await,
        BusKind::Embedded => bus::bus(data_dir, &config.bus.embedded, &running),
    });
    let (http, rtmp) = (config.http.listen, config.rtmp.listen);
    findings.push(ports::port("http-port", "http.listen", http, Over::Tcp, &running));
    let rtmp =
        ports::both(http, rtmp).unwrap_or_else(|| ports::port("rtmp-port", "rtmp.listen", rtmp, Over::Tcp, &running));
    findings.push(rtmp);
    findings.extend(resolvers::resolvers(&config.pull.resolvers));
    findings.push(ports::port("srt-port", "srt.listen", config.srt.listen, Over::Udp, &running));
    findings.push(ports::port("webrtc-port", "webrtc.listen", config.webrtc.listen, Over::Udp, &running));
    if let Some(rtmps) = config.rtmp.tls_listen {
        findings.push(ports::port("rtmps-port", "rtmp.tls_listen", rtmps, Over::Tcp, &running));
    }
    findings.push(limits::descriptors(crate::descriptors::needed(config)));
    findings.push(clock::clock(data_dir).await);
    findings
}
