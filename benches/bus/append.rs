//! Appending with acks=all: `KafkaBus::append` and `kafka-producer-perf-test` in turn, to equal topics.

use anyhow::Context;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crest_core::StreamId;
use crest_core::bus::{Record, SharedBus};
use crest_core::topic::Topic;

use crate::broker::{Broker, bus, megabytes};
use crate::table::{Contest, Table, Turn, processor_seconds};
use crate::{Common, Result};

/// The topic that both append to, each to one of its own.
pub const TOPIC: Topic = Topic::Signals;
/// Feeds that append at the same time, each its own stream, waiting for the acknowledgement of each call.
const WRITERS: u64 = 64;
/// Records of a call: what an analyzer makes of the samples that it takes from the bus at a time.
const CALL: u64 = 128;

/// Appends so many records; returns how many a second.
pub async fn append(bus: &SharedBus, records: u64, bytes: usize) -> Result<f64> {
    let left = Arc::new(AtomicU64::new(records));
    let began = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (bus, left) = (bus.clone(), left.clone());
        writers.spawn(async move {
            let payloads = payloads(writer, bytes);
            let key = StreamId::from_raw(format!("str_{writer:012x}"));
            loop {
                let take = |left: u64| (left > 0).then(|| left - left.min(CALL));
                let Ok(before) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else { break };
                let one = |n: u64| Record::new(TOPIC, key.clone(), payloads[n as usize % payloads.len()].clone());
                bus.append(TOPIC, (0..before.min(CALL)).map(one).collect()).await?;
            }
            Ok::<_, crest_core::Error>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(records as f64 / began.elapsed().as_secs_f64())
}

/// Payloads of letters, as Kafka's tool makes them: so many that none is like another nearby.
fn payloads(seed: u64, bytes: usize) -> Vec<Bytes> {
    let mut state = seed + 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'A' + (state % 26) as u8
    };
    (0..256).map(|_| (0..bytes).map(|_| letter()).collect()).collect()
}

/// What the tool appends to the topic of this prefix.
async fn tool(broker: &Broker, prefix: &str, common: &Common, more: &[String]) -> Result<Turn> {
    // The first records only warm up its compiler.
    let warm_up = common.records / 5;
    let mut arguments: Vec<String> = ["--topic", &format!("{prefix}{}", TOPIC.name()), "--throughput", "-1"]
        .into_iter()
        .chain(["--num-records", &(common.records + warm_up).to_string(), "--warmup-records", &warm_up.to_string()])
        .chain(["--bootstrap-server", &broker.brokers])
        .map(str::to_owned)
        .collect();
    arguments.extend_from_slice(more);
    let used = processor_seconds().1;
    let said = broker.tool("ProducerPerformance", arguments).await?;
    // The last line is of what followed: `500000 records sent, 123456.7 records/sec (120.56 MB/sec), ...`.
    let line = said.lines().rfind(|line| line.contains("records/sec")).context("the tool said nothing")?;
    let rate = line.split(", ").find_map(|part| part.split_once(" records/sec")?.0.trim().parse().ok());
    let rate = rate.with_context(|| format!("not understood: {line}"))?;
    Ok(Turn { rate, per_core: (common.records + warm_up) as f64 / (processor_seconds().1 - used).max(0.01) })
}

async fn ours(bus: &SharedBus, common: &Common) -> Result<Turn> {
    append(bus, common.records / 5, common.bytes).await?;
    let used = processor_seconds().0;
    let rate = append(bus, common.records, common.bytes).await?;
    Ok(Turn { rate, per_core: common.records as f64 / (processor_seconds().0 - used).max(0.01) })
}

pub async fn run(broker: &Broker, common: &Common) -> Result<Table> {
    eprintln!("appending {} records of {} bytes, {} rounds", common.records, common.bytes, common.rounds);
    let size = common.bytes.to_string();
    let plain = ["--record-size", &size, "--command-property", "acks=all"].map(str::to_owned);
    let file = common.out.join("payloads");
    let lines: Vec<String> =
        payloads(1, common.bytes).iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    std::fs::write(&file, lines.join("\n"))?;
    let file = file.to_string_lossy();
    let alike = ["--payload-file", &file, "--command-property", "acks=all", "linger.ms=5", "compression.type=lz4"];
    let alike = alike.map(str::to_owned);
    let mut contest = Contest::new(&[
        "`KafkaBus::append`",
        "`kafka-producer-perf-test --record-size`",
        "the same with ready payloads, `linger.ms` and `compression.type` as crest has them",
    ]);
    // The first round only warms up the broker.
    for round in 0..=common.rounds {
        eprintln!("round {round}");
        let prefix = broker.prefix();
        let bus = bus(&broker.brokers, &prefix).await?;
        for turn in (0..3).map(|turn| (turn + round) % 3) {
            let done = match turn {
                0 => ours(&bus, common).await?,
                1 => tool(broker, &prefix, common, &plain).await?,
                _ => tool(broker, &prefix, common, &alike).await?,
            };
            if round > 0 {
                contest.push(turn, done);
            }
        }
        drop(bus);
        broker.forget(&prefix).await?;
    }
    let heading = format!("Appending records of {} bytes, acks=all", common.bytes);
    let columns =
        ["", "records/s", "MiB/s", "spread", "records per second of the client's processor time", "crest : this"];
    let mut table = Table::new(heading, &columns);
    contest.rows(&mut table, |rate| format!("{:.0}", rate * megabytes(1, common.bytes)), true);
    Ok(table)
}
