//! What the system knows of a process: processor time by thread, memory, bytes that wait in sockets.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;

/// Seconds of processor time of a process so far; threads that have ended count.
pub fn processor_seconds(pid: u32) -> Result<f64> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?).context("no processor time")
}

/// Seconds of processor time of the threads that are there, by name without its number.
pub fn by_thread(pid: u32) -> Result<BTreeMap<String, f64>> {
    let mut sums = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // One that ends meanwhile.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(name, _)| name);
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '#' | ':'));
        *sums.entry(name.to_owned()).or_default() += ticks(&stat).unwrap_or(0.0);
    }
    Ok(sums)
}

/// Fields 14 and 15, counted from 1, in ticks of 10 ms; the name before them may hold spaces.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

/// Bytes of resident memory.
pub struct Memory {
    pub now: f64,
    /// Of these, what is no file's: what crest has allocated, and stacks.
    pub anonymous: f64,
    /// The most so far.
    pub peak: f64,
}

/// What a process holds.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib * 1024.0).with_context(|| format!("no {name}"))
    };
    Ok(Memory { now: of("VmRSS:")?, anonymous: of("RssAnon:")?, peak: of("VmHWM:")? })
}

/// The most bytes that any connection to a local port holds: sent by its peer, and not yet read here.
pub fn unread(port: u16) -> Result<f64> {
    let connections = fs::read_to_string("/proc/net/tcp")?;
    let port = format!(":{port:04X}");
    let waiting = connections.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, remote, queues) = (fields.get(1)?, fields.get(2)?, fields.get(4)?);
        let (sending, received) = queues.split_once(':')?;
        let side = if local.ends_with(&port) { received } else { sending };
        let ours = local.ends_with(&port) || remote.ends_with(&port);
        ours.then(|| u64::from_str_radix(side, 16).ok()).flatten()
    });
    Ok(waiting.max().unwrap_or(0) as f64)
}
