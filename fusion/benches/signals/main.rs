//! How many signal values a second one core takes through fusion's part of the way: payload to entries,
//! entries to decisions, state to snapshot and back.
//!
//! ```text
//! cargo bench -p crest-fusion --bench signals [-- --streams N --seconds N --rounds N]
//! ```
//!
//! The log is that of so many live streams at once, record by record as the analyzers append it. Each round
//! measures every part once, in time that the thread was given by the system, so that what else the machine does
//! falls on all of them and as little as can be; the table shows medians.

#[path = "../../tests/it/logs.rs"]
#[allow(dead_code)]
mod logs;

use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::{OrganizationId, StreamId};
use crest_fusion::{DimensionSet, StreamFusion};
use logs::{Shape, live};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Records of a stream between two snapshots, as in `src/roles/fuse.rs`.
const SNAPSHOT_EVERY: usize = 256;

/// Snapshots that are written and read in a round.
const STATES: usize = 4000;

type Fail = Box<dyn std::error::Error>;

/// The streams' logs, merged by time.
struct Log {
    streams: usize,
    records: Vec<(usize, SignalBatch)>,
    payloads: Vec<Vec<u8>>,
    values: usize,
}

impl Log {
    fn new(streams: usize, seconds: u64) -> Result<Self, Fail> {
        let mut logs: Vec<_> = (0..streams)
            .map(|stream| live(stream as u64, 1, Shape { seconds, ..Shape::WHOLE }).into_iter().peekable())
            .collect();
        let mut records = Vec::new();
        // Every stream runs at its own pace: so many records each per round keeps them roughly in step.
        while logs.iter_mut().any(|log| log.peek().is_some()) {
            for (stream, log) in logs.iter_mut().enumerate() {
                records.extend(log.by_ref().take(3).map(|(_, batch)| (stream, batch)));
            }
        }
        let payloads = records.iter().map(|(_, batch)| batch.encode()).collect::<Result<_, _>>()?;
        let is_value = |entry: &&SignalEntry| matches!(entry, SignalEntry::Value { .. });
        let values = records.iter().map(|(_, batch)| batch.entries.iter().filter(is_value).count()).sum();
        Ok(Self { streams, records, payloads, values })
    }

    fn fresh(&self) -> Vec<StreamFusion> {
        let organization = OrganizationId::from_raw("org_3f9c2ab07d51");
        let id = |stream| StreamId::from_raw(format!("str_{stream:012x}"));
        let fusion = |stream| StreamFusion::new(organization.clone(), id(stream), DimensionSet::default());
        (0..self.streams).map(fusion).collect()
    }
}

/// What a round found.
#[derive(Default)]
struct Round {
    encode: Duration,
    decode: Duration,
    apply: Duration,
    /// One of them.
    snapshot: Duration,
    restore: Duration,
    whole: Duration,
    /// Bytes of all streams' snapshots, snapshots of the whole way, decisions.
    counts: (usize, usize, usize),
}

fn timed<T>(work: impl FnOnce() -> Result<T, Fail>) -> Result<(Duration, T), Fail> {
    let (began, given) = (Instant::now(), given());
    let made = work()?;
    let elapsed = began.elapsed();
    Ok((given.zip(self::given()).map_or(elapsed, |(before, after)| after - before), made))
}

/// How long this thread has run, where the system says so: to a few milliseconds.
fn given() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn round(log: &Log) -> Result<Round, Fail> {
    let mut round = Round::default();
    (round.encode, _) = timed(|| {
        for (_, batch) in &log.records {
            black_box(batch.encode()?);
        }
        Ok(())
    })?;
    (round.decode, _) = timed(|| {
        for payload in &log.payloads {
            black_box(SignalBatch::decode(payload)?);
        }
        Ok(())
    })?;
    let mut streams = log.fresh();
    (round.apply, _) = timed(|| {
        for (stream, batch) in &log.records {
            black_box(streams[*stream].apply(batch));
        }
        Ok(())
    })?;
    // The states of the middle of a session: at its end there is little left.
    let mut streams = log.fresh();
    log.records.iter().take(log.records.len() * 3 / 4).for_each(|(stream, batch)| {
        streams[*stream].apply(batch);
    });
    let states = streams.iter().map(StreamFusion::snapshot).collect::<Result<Vec<_>, _>>()?;
    round.counts.0 = states.iter().map(Vec::len).sum();
    // Often enough to be measured.
    let repeat = STATES.div_ceil(log.streams);
    let one = |took: Duration| took / (repeat * log.streams) as u32;
    let (took, ()) = timed(|| {
        for fusion in streams.iter().cycle().take(repeat * log.streams) {
            black_box(fusion.snapshot()?);
        }
        Ok(())
    })?;
    round.snapshot = one(took);
    let (took, ()) = timed(|| {
        for state in states.iter().cycle().take(repeat * log.streams) {
            black_box(StreamFusion::restore(state)?);
        }
        Ok(())
    })?;
    round.restore = one(took);
    let mut streams = log.fresh();
    let mut since = vec![0; log.streams];
    (round.whole, _) = timed(|| {
        for ((stream, _), payload) in log.records.iter().zip(&log.payloads) {
            let outcome = streams[*stream].apply(&SignalBatch::decode(payload)?);
            since[*stream] += 1;
            round.counts.2 += outcome.decisions.len();
            if since[*stream] >= SNAPSHOT_EVERY || !outcome.decisions.is_empty() {
                black_box(streams[*stream].snapshot()?);
                since[*stream] = 0;
                round.counts.1 += 1;
            }
        }
        Ok(())
    })?;
    Ok(round)
}

/// The value after `--name`, or `otherwise`.
fn argument(name: &str, otherwise: u64) -> Result<u64, Fail> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(Ok(otherwise), |text| text.parse().map_err(|_| format!("{name} takes a number").into()))
}

fn main() -> Result<(), Fail> {
    let rounds = argument("--rounds", 9)?.max(1) as usize;
    let seconds = argument("--seconds", 120)?;
    let sizes = match argument("--streams", 0)? {
        0 => vec![100, 1000],
        streams => vec![streams as usize],
    };
    for streams in sizes {
        let log = Log::new(streams, seconds)?;
        let measured = (0..rounds).map(|_| round(&log)).collect::<Result<Vec<_>, _>>()?;
        show(&log, &measured);
    }
    Ok(())
}

fn show(log: &Log, rounds: &[Round]) {
    let (records, values) = (log.records.len(), log.values);
    let bytes: usize = log.payloads.iter().map(Vec::len).sum();
    println!("{} streams: {records} records of {} bytes, {values} values", log.streams, bytes / records);
    println!("  {:24} {:>12} {:>14} {:>8}", "one core", "values/s", "us per record", "spread");
    let line = |name: &str, part: fn(&Round) -> Duration| {
        let mut took: Vec<f64> = rounds.iter().map(|round| part(round).as_secs_f64()).collect();
        took.sort_by(f64::total_cmp);
        let (low, median, high) = (took[0], took[took.len() / 2], took[took.len() - 1]);
        let (rate, each) = (values as f64 / median, median * 1e6 / records as f64);
        println!("  {name:24} {rate:>12.0} {each:>14.2} {:>7.0}%", (high - low) / median * 100.0);
    };
    line("encode", |r| r.encode);
    line("decode", |r| r.decode);
    line("apply", |r| r.apply);
    line("decode, apply, snapshot", |r| r.whole);
    let each = |part: fn(&Round) -> Duration| {
        let mut took: Vec<f64> = rounds.iter().map(|round| part(round).as_secs_f64() * 1e6).collect();
        took.sort_by(f64::total_cmp);
        took[took.len() / 2]
    };
    let (bytes, snapshots, decisions) = rounds[0].counts;
    println!(
        "  a snapshot: {:.1} us to write, {:.1} us to read, {} bytes; {snapshots} on the whole way, {decisions} decisions",
        each(|r| r.snapshot),
        each(|r| r.restore),
        bytes / log.streams
    );
}
