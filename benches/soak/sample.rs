//! Once a second: what the process holds, from `/proc` and `/metrics`.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::crest::{Api, Crest};

/// What is measured. Memory in KiB: all that is resident (`rss`), the share of it that is not the
/// program's file (`anonymous`: heap and stacks). Descriptors by kind; `close_wait` are sockets whose
/// peer is gone. `series` and `stream_series` are lines of `/metrics`, all and those that name a
/// stream. The sizes of folders in KiB. `cpu_s` is what all threads have computed so far, in seconds.
pub const COLUMNS: [&str; 17] = [
    "rss_kib",
    "pss_kib",
    "anonymous_kib",
    "threads",
    "descriptors",
    "sockets",
    "close_wait",
    "files",
    "pipes",
    "other",
    "series",
    "stream_series",
    "feeds_live",
    "streams_over",
    "bus_kib",
    "database_kib",
    "cpu_s",
];
const FROM_METRICS: [&str; 3] = ["series", "stream_series", "feeds_live"];

/// One second.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Seconds since the first.
    pub t: f64,
    /// What was going on.
    pub phase: String,
    values: [f64; COLUMNS.len()],
}

impl Row {
    /// A value by the name of its column.
    pub fn get(&self, column: &str) -> f64 {
        COLUMNS.iter().position(|name| *name == column).map_or(f64::NAN, |at| self.values[at])
    }

    fn set(&mut self, column: &str, value: f64) {
        if let Some(at) = COLUMNS.iter().position(|name| *name == column) {
            self.values[at] = value;
        }
    }

    fn add(&mut self, column: &str, value: f64) {
        self.set(column, self.get(column) + value);
    }

    fn line(&self) -> String {
        let values: Vec<String> = self.values.iter().map(f64::to_string).collect();
        format!("{:.1},{},{}", self.t, self.phase, values.join(","))
    }
}

/// Writes rows, the first as they are and then one in `thin`.
pub fn write(path: &Path, rows: &[Row], thin: usize) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "t_s,phase,{}", COLUMNS.join(","))?;
    for row in rows.iter().step_by(thin.max(1)) {
        writeln!(file, "{}", row.line())?;
    }
    Ok(file.flush()?)
}

/// Reads what was written, by the names of the columns; a last line that is not whole is left out.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().with_context(|| format!("{} is empty", path.display()))?;
    let row = |fields: Vec<&str>| {
        let whole = fields.len() == names.len();
        let mut row = Row { t: fields.first()?.parse().ok()?, phase: (*fields.get(1)?).to_owned(), ..Row::default() };
        for (name, field) in names.iter().zip(&fields).skip(2) {
            row.set(name, field.parse().ok()?);
        }
        whole.then_some(row)
    };
    Ok(lines.filter_map(row).collect())
}

#[derive(Default)]
struct Progress {
    phase: String,
    over: u64,
}

/// Measures in the background.
pub struct Sampler {
    progress: Arc<Mutex<Progress>>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Sampler {
    /// Begins; `/metrics` is asked every `scrape` seconds.
    pub fn start(crest: &Crest, path: &Path, scrape: u64) -> Result<Self> {
        let progress: Arc<Mutex<Progress>> = Arc::default();
        let stop = CancellationToken::new();
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let (pid, data, api) = (crest.pid, crest.data.clone(), crest.operator()?);
        let task = tokio::spawn(measure(pid, data, api, file, scrape.max(1), Arc::clone(&progress), stop.clone()));
        Ok(Self { progress, stop, task })
    }

    /// What is going on from now on.
    pub fn phase(&self, name: &str) {
        name.clone_into(&mut self.lock().phase);
    }

    /// One more stream is over.
    pub fn stream_over(&self) {
        self.lock().over += 1;
    }

    /// Ends, and says what went wrong meanwhile.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn measure(
    pid: u32,
    data: PathBuf,
    api: Api,
    file: File,
    scrape: u64,
    progress: Arc<Mutex<Progress>>,
    stop: CancellationToken,
) -> Result<()> {
    let mut file = BufWriter::new(file);
    writeln!(file, "t_s,phase,{}", COLUMNS.join(","))?;
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Row::default();
    for second in 0u64.. {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let mut row = Row { t: begun.elapsed().as_secs_f64(), ..Row::default() };
        FROM_METRICS.iter().for_each(|column| row.set(column, last.get(column)));
        {
            let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            row.phase.clone_from(&progress.phase);
            row.set("streams_over", progress.over as f64);
        }
        process(pid, &mut row).context("the server cannot be looked at; has it ended?")?;
        row.set("bus_kib", kib_below(&data.join("bus")));
        row.set("database_kib", kib_of(&data, "crest.db"));
        if second % scrape == scrape / 2 {
            metrics(&api.text("/metrics").await?, &mut row);
        }
        writeln!(file, "{}", row.line())?;
        file.flush()?;
        last = row;
    }
    Ok(())
}

fn process(pid: u32, row: &mut Row) -> Result<()> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let number = |text: &str, name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        value.and_then(|value| value.parse().ok()).with_context(|| format!("no {name}"))
    };
    let rollup = fs::read_to_string(proc.join("smaps_rollup"))?;
    row.set("rss_kib", number(&rollup, "Rss:")?);
    row.set("pss_kib", number(&rollup, "Pss:")?);
    row.set("anonymous_kib", number(&rollup, "Anonymous:")?);
    row.set("threads", number(&fs::read_to_string(proc.join("status"))?, "Threads:")?);
    // Fields 14 and 15, counted from 1, in ticks of 10 ms; the name before them may hold spaces.
    let stat = fs::read_to_string(proc.join("stat"))?;
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    row.set("cpu_s", ticks.sum::<f64>() / 100.0);
    let tcp = fs::read_to_string(proc.join("net/tcp"))?;
    let abandoned = close_wait(&tcp);
    for entry in fs::read_dir(proc.join("fd"))?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        row.add("descriptors", 1.0);
        row.add(kind(&target), 1.0);
        if abandoned.iter().any(|inode| target == format!("socket:[{inode}]")) {
            row.add("close_wait", 1.0);
        }
    }
    Ok(())
}

fn kind(target: &str) -> &'static str {
    match target.split_once(':') {
        Some(("socket", _)) => "sockets",
        Some(("pipe", _)) => "pipes",
        _ if target.starts_with('/') => "files",
        _ => "other",
    }
}

/// Inodes of the machine's sockets that wait to be closed here.
fn close_wait(tcp: &str) -> Vec<&str> {
    const CLOSE_WAIT: &str = "08";
    let fields = tcp.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f.get(3) == Some(&CLOSE_WAIT)).filter_map(|f| f.get(9).copied()).collect()
}

fn metrics(text: &str, row: &mut Row) {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    row.set("series", lines.len() as f64);
    row.set("stream_series", lines.iter().filter(|line| line.contains("str_")).count() as f64);
    let live = lines.iter().find_map(|line| line.strip_prefix("crest_feeds_live "));
    row.set("feeds_live", live.and_then(|value| value.parse().ok()).unwrap_or(0.0));
}

fn kib_below(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => kib_below(&entry.path()),
        Ok(data) => data.len() as f64 / 1024.0,
        Err(_) => 0.0,
    };
    entries.map(size).sum()
}

/// The size of the files in `folder` whose names begin like this.
fn kib_of(folder: &Path, name: &str) -> f64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
    own.filter_map(|entry| entry.metadata().ok()).map(|data| data.len() as f64 / 1024.0).sum()
}
