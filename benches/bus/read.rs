//! Reading: a subscription and `kafka-consumer-perf-test` in turn, of the same records.

use anyhow::{Context, ensure};
use std::time::Instant;

use crest_core::bus::{Next, Received, SharedBus, Start, Subscription};

use crate::append::{TOPIC, append};
use crate::broker::{Broker, bus, megabytes};
use crate::table::{Contest, Table, Turn, processor_seconds};
use crate::{Common, Result};

/// Records taken at once, as the roles do.
pub const BATCH: usize = 256;

/// Takes so many records with `handle`, acknowledges them, and returns how many a second from when the
/// partitions were there.
pub async fn read(
    subscription: &mut Box<dyn Subscription>,
    records: u64,
    mut handle: impl FnMut(&Received) -> Result<()>,
) -> Result<f64> {
    let mut began = None;
    let mut taken = 0;
    while taken < records {
        match subscription.next(BATCH).await? {
            Next::Assigned(_) => began = began.or(Some(Instant::now())),
            Next::Revoked(partitions) => anyhow::bail!("partitions {partitions:?} went elsewhere"),
            Next::Records(received) => {
                received.iter().try_for_each(&mut handle)?;
                taken += received.len() as u64;
                let mut last = std::collections::BTreeMap::new();
                last.extend(received.iter().map(|r| (r.position.partition, r.position)));
                for position in last.into_values() {
                    subscription.acknowledge(position).await?;
                }
            }
        }
    }
    let began = began.context("no partition was told")?;
    Ok(taken as f64 / began.elapsed().as_secs_f64())
}

async fn ours(bus: &SharedBus, common: &Common, group: &str) -> Result<Turn> {
    let mut subscription = bus.subscribe(TOPIC, group, Start::Acknowledged).await?;
    let (mut bytes, used) = (0, processor_seconds().0);
    let rate = read(&mut subscription, common.records, |received| {
        bytes += received.record.payload.len();
        Ok(())
    })
    .await?;
    ensure!(bytes as u64 == common.records * common.bytes as u64, "{bytes} bytes came");
    Ok(Turn { rate, per_core: common.records as f64 / (processor_seconds().0 - used).max(0.01) })
}

async fn tool(broker: &Broker, prefix: &str, common: &Common) -> Result<Turn> {
    let arguments = [
        ("--bootstrap-server", broker.brokers.clone()),
        ("--topic", format!("{prefix}{}", TOPIC.name())),
        ("--num-records", common.records.to_string()),
    ];
    let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let used = processor_seconds().1;
    let said = broker.tool("ConsumerPerformance", arguments).await?;
    // A line of names, a line of figures; `fetch.nMsg.sec` leaves out the time until partitions were there.
    let mut lines = said.lines().filter(|line| line.contains(", "));
    let (names, figures) = lines.next().zip(lines.next()).with_context(|| format!("not understood: {said}"))?;
    let at = names.split(", ").position(|name| name.trim() == "fetch.nMsg.sec").context("no fetch.nMsg.sec")?;
    let rate = figures.split(", ").nth(at).and_then(|figure| figure.trim().parse().ok());
    let rate = rate.with_context(|| format!("not understood: {said}"))?;
    Ok(Turn { rate, per_core: common.records as f64 / (processor_seconds().1 - used).max(0.01) })
}

pub async fn run(broker: &Broker, common: &Common) -> Result<Table> {
    eprintln!("reading {} records of {} bytes, {} rounds", common.records, common.bytes, common.rounds);
    let prefix = broker.prefix();
    let bus = bus(&broker.brokers, &prefix).await?;
    append(&bus, common.records, common.bytes).await?;
    let mut contest = Contest::new(&["a subscription", "`kafka-consumer-perf-test`"]);
    for round in 0..=common.rounds {
        eprintln!("round {round}");
        for turn in (0..2).map(|turn| (turn + round) % 2) {
            let done = match turn {
                0 => ours(&bus, common, &format!("round-{round}")).await?,
                _ => tool(broker, &prefix, common).await?,
            };
            if round > 0 {
                contest.push(turn, done);
            }
        }
    }
    drop(bus);
    broker.forget(&prefix).await?;
    let heading = format!("Reading records of {} bytes", common.bytes);
    let columns =
        ["", "records/s", "MiB/s", "spread", "records per second of the client's processor time", "crest : this"];
    let mut table = Table::new(heading, &columns);
    contest.rows(&mut table, |rate| format!("{:.0}", rate * megabytes(1, common.bytes)), true);
    Ok(table)
}
