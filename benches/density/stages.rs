//! Processor time by stage, from `perf`: each sample of the running program counts for the innermost function on its
//! stack that says which stage it works for.

use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// Samples a second of processor time, and bytes of the stack kept with each.
const FREQUENCY: &str = "199";
const STACK: &str = "dwarf,16384";
/// Stages by a part of a function's name. A sample's stack is gone through from the inside out, and the first function
/// that is named here decides.
const STAGES: [(&str, &str); 15] = [
    // Keyframes have threads of their own.
    ("crest_media::decode", "sound"),
    ("crest_media::segmenter", "segments"),
    ("crest_media::mp4", "segments"),
    ("make_durable", "segments"),
    ("crest_ingest::sampl", "samples"),
    ("crest_ingest::rtmp", "RTMP"),
    ("crest_ingest", "feed"),
    ("crest_analyzers", "analyzers"),
    ("crest::roles::analyze", "analyzers"),
    ("crest_fusion", "fusion"),
    ("crest::roles::fuse", "fusion"),
    ("crest_bus", "bus"),
    ("fjall", "bus"),
    ("lsm_tree", "bus"),
    ("sqlx", "database"),
];
/// What the rest is.
const REST: &str = "runtime and other";

/// A recording in progress.
pub struct Profile {
    perf: Child,
    file: PathBuf,
}

/// Begins to record a process for so many seconds. Needs `perf`, and the right to use it.
pub fn record(pid: u32, seconds: u64, out: &Path) -> Result<Profile> {
    let file = out.join("perf.data");
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "--call-graph", STACK, "-o"]).arg(&file);
    command.args(["-p", &pid.to_string(), "--", "sleep", &seconds.to_string()]).stdin(Stdio::null());
    let perf = command.kill_on_drop(true).spawn().context("perf cannot be started (package linux-perf)")?;
    Ok(Profile { perf, file })
}

impl Profile {
    /// The share of each stage, the dearest first.
    pub async fn shares(mut self) -> Result<Vec<(&'static str, f64)>> {
        ensure!(self.perf.wait().await?.success(), "perf could not record; kernel.perf_event_paranoid may forbid it");
        let mut command = Command::new("perf");
        command.args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"]).arg(&self.file).stderr(Stdio::null());
        let script = command.output().await?;
        ensure!(script.status.success(), "perf could not read what it recorded");
        std::fs::remove_file(&self.file)?;
        let text = String::from_utf8_lossy(&script.stdout);
        let mut counts: HashMap<&'static str, f64> = HashMap::new();
        let samples: Vec<&str> = text.split("\n\n").filter(|sample| !sample.trim().is_empty()).collect();
        for sample in &samples {
            *counts.entry(stage(sample)).or_default() += 1.0 / samples.len() as f64;
        }
        let mut shares: Vec<_> = counts.into_iter().collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(shares)
    }
}

/// A sample is the thread's name, and a line for each function, the innermost first.
fn stage(sample: &str) -> &'static str {
    let mut lines = sample.lines();
    match lines.next().map(str::trim) {
        Some(thread) if thread.starts_with("keyframes-") => return "keyframes",
        Some(thread) if thread.starts_with("sqlx-sqlite") => return "database",
        _ => {}
    }
    let named = |line: &str| STAGES.iter().find(|(part, _)| line.contains(part)).map(|(_, stage)| *stage);
    lines.find_map(named).unwrap_or(REST)
}
