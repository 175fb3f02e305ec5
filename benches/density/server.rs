//! crest with so many feeds, doing everything: what it costs by thread, what it holds, what it drops, how far its
//! samples are behind.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Common;
use crate::crest::Crest;
use crate::load::Load;
use crate::{proc, stages};

/// Bytes a second of the feed, to tell waiting bytes as time.
const RATE: f64 = 6_200_000.0 / 8.0;
/// Between the last publisher's start and the first look: decoders are made, sessions have begun.
const WARM_UP: Duration = Duration::from_secs(8);

/// What a run with so many feeds came to. Processor time in seconds a second and feed.
pub struct Figures {
    pub feeds: usize,
    /// crest, all of it.
    pub cost: f64,
    /// The same by thread, the dearest first.
    pub threads: Vec<(String, f64)>,
    /// The same by stage, where `perf` was there to tell.
    pub stages: Vec<(&'static str, f64)>,
    /// The load program.
    pub load: f64,
    /// Bytes a feed, at the highest, beyond those of crest without feeds.
    pub memory: f64,
    /// Samples, analysed or not, that were dropped.
    pub dropped: f64,
    /// Samples within half a second, one second, two seconds, and all.
    pub delays: [f64; 4],
    /// Seconds of media that waited in the sockets of one feed at most.
    pub unread: f64,
    /// The most that the load program was late with a message, which is no fault of crest's unless bytes wait too.
    pub late: Duration,
}

/// Runs crest on an empty data directory with `feeds` publishers of `file`.
pub async fn run(common: &Common, file: &Path, feeds: usize) -> Result<Figures> {
    let crest = Crest::start(&common.crest, &common.out.join(format!("crest-{feeds}.log"))).await?;
    let empty = proc::memory(crest.pid)?.now;
    let (address, port) = address(&crest.rtmp)?;
    let streams = create(&crest, feeds).await?;
    let keys: Vec<String> = streams.into_iter().map(|(_, key)| key).collect();
    let load = Load::start(file, &address, &keys).await?;
    tokio::time::sleep(WARM_UP).await;

    let api = crest.operator()?;
    let before = (api.text("/metrics").await?, proc::by_thread(crest.pid)?);
    let (cpu, load_cpu) = (proc::processor_seconds(crest.pid)?, proc::processor_seconds(load.pid)?);
    let begun = Instant::now();
    let profile = common.stages.then(|| stages::record(crest.pid, common.seconds, &common.out)).transpose()?;
    let mut unread = 0.0_f64;
    while begun.elapsed() < Duration::from_secs(common.seconds) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        unread = unread.max(proc::unread(port)?);
    }
    // A feed's seconds are the clock's: publishers keep pace.
    let seconds = begun.elapsed().as_secs_f64() * feeds as f64;
    let cost = (proc::processor_seconds(crest.pid)? - cpu) / seconds;
    let load_cost = (proc::processor_seconds(load.pid)? - load_cpu) / seconds;
    let threads = difference(&before.1, &proc::by_thread(crest.pid)?, seconds);
    let peak = proc::memory(crest.pid)?.peak;
    let after = api.text("/metrics").await?;
    let stages = match profile {
        Some(profile) => profile.shares().await?.into_iter().map(|(stage, share)| (stage, share * cost)).collect(),
        None => Vec::new(),
    };
    let late = load.stop().await.with_context(|| format!("with {feeds} feeds"))?;
    crest.stop().await?;
    let delays = |bound: &str| {
        let of = |text: &str| sum_where(text, "crest_sample_delay_seconds_bucket", &format!("le=\"{bound}\""));
        of(&after) - of(&before.0)
    };
    Ok(Figures {
        feeds,
        cost,
        threads,
        stages,
        load: load_cost,
        memory: (peak - empty) / feeds as f64,
        // From the start on: a drop while feeds begin is one too.
        dropped: sum(&after, "crest_samples_dropped_total") + sum(&after, "crest_bus_missed_records_total"),
        delays: ["0.5", "1", "2", "+Inf"].map(delays),
        unread: unread / RATE,
        late,
    })
}

/// `HOST:PORT` of the listener, and the port.
pub fn address(rtmp: &str) -> Result<(String, u16)> {
    let address =
        rtmp.strip_prefix("rtmp://").and_then(|rest| rest.strip_suffix("/live")).context("no RTMP address")?;
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).context("no port")?;
    Ok((address.to_owned(), port))
}

/// Creates streams; their ids and keys.
pub async fn create(crest: &Crest, count: usize) -> Result<Vec<(String, String)>> {
    let api = crest.operator()?;
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let made = api.post("/v1/streams", json!({ "name": "density", "source": { "kind": "rtmp" } })).await?;
        let (id, key) = (made["id"].as_str(), made["ingest"]["stream_key"].as_str());
        ensure!(id.is_some() && key.is_some(), "incomplete: {made}");
        streams.extend(id.zip(key).map(|(id, key)| (id.to_owned(), key.to_owned())));
    }
    Ok(streams)
}

fn difference(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, per: f64) -> Vec<(String, f64)> {
    let grown = |(name, total): (&String, &f64)| (name.clone(), (total - before.get(name).unwrap_or(&0.0)) / per);
    let mut threads: Vec<_> = after.iter().map(grown).collect();
    threads.sort_by(|a, b| b.1.total_cmp(&a.1));
    threads
}

/// The sum of all series of this name.
pub fn sum(metrics: &str, name: &str) -> f64 {
    sum_where(metrics, name, "")
}

/// The sum of all series of this name with this label.
fn sum_where(metrics: &str, name: &str, label: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).fold(0.0, |sum, value| sum + value)
}
