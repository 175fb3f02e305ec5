//! Signal values a second: records as analyzers append them, through a bus, decoded and applied to fusion.

use std::collections::HashMap;
use std::time::Instant;

use crest_core::bus::{Next, Record, SharedBus, Start, Subscription};
use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::topic::{Topic, group};
use crest_core::{OrganizationId, StreamId};
use crest_fusion::{DimensionSet, StreamFusion};

use crate::broker::{Broker, bus};
use crate::logs::{Shape, live};
use crate::read::{BATCH, read};
use crate::table::{Contest, Table, Turn, grouped, processor_seconds};
use crate::{Common, Result};

/// Loops that append at the same time: each of four analyzing processes has one for each topic that it reads.
const WRITERS: usize = 16;
/// Records of a call: what an analyzer makes of the samples that it takes from the bus at a time.
const CALL: usize = 256;
/// Records of a stream between two snapshots, as in `src/roles/fuse/partition.rs`.
const SNAPSHOT_EVERY: u32 = 256;

/// The logs of many live streams, in the order in which they come about.
struct Log {
    /// By who appends them: a stream has one of these.
    records: Vec<Vec<Record>>,
    values: u64,
    bytes: usize,
}

impl Log {
    fn new(streams: usize, seconds: u64) -> Result<Self> {
        let mut log = Self { records: vec![Vec::new(); WRITERS], values: 0, bytes: 0 };
        let shape = Shape { seconds, ..Shape::WHOLE };
        let mut logs: Vec<_> = (0..streams).map(|stream| live(stream as u64, 1, shape).into_iter()).collect();
        let mut left = true;
        // Every stream runs at its own pace: so many records each per turn keeps them roughly in step.
        while std::mem::take(&mut left) {
            for (stream, records) in logs.iter_mut().enumerate() {
                for (_, batch) in records.by_ref().take(3) {
                    left = true;
                    let is_value = |entry: &&SignalEntry| matches!(entry, SignalEntry::Value { .. });
                    log.values += batch.entries.iter().filter(is_value).count() as u64;
                    let key = StreamId::from_raw(format!("str_{stream:012x}"));
                    let record = Record::new(Topic::Signals, key, batch.encode()?);
                    log.bytes += record.payload.len();
                    log.records[stream % WRITERS].push(record);
                }
            }
        }
        Ok(log)
    }

    fn len(&self) -> u64 {
        self.records.iter().map(|records| records.len() as u64).sum()
    }

    /// Appends everything.
    async fn append(&self, bus: &SharedBus) -> Result<()> {
        let mut writers = tokio::task::JoinSet::new();
        for records in self.records.clone() {
            let bus = bus.clone();
            writers.spawn(async move {
                let mut records = records.into_iter().peekable();
                while records.peek().is_some() {
                    bus.append(Topic::Signals, records.by_ref().take(CALL).collect()).await?;
                }
                Ok::<_, crest_core::Error>(())
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// What the fusing role does with a record, but for the database.
struct Fusing {
    organization: OrganizationId,
    streams: HashMap<StreamId, (StreamFusion, u32)>,
    decisions: usize,
}

impl Fusing {
    fn new() -> Self {
        Self { organization: OrganizationId::from_raw("org_3f9c2ab07d51"), streams: HashMap::new(), decisions: 0 }
    }

    fn apply(&mut self, record: &Record) -> Result<()> {
        let batch = SignalBatch::decode(&record.payload)?;
        let organization = &self.organization;
        let fresh = || (StreamFusion::new(organization.clone(), record.key.clone(), DimensionSet::default()), 0);
        let (fusion, since) = self.streams.entry(record.key.clone()).or_insert_with(fresh);
        let outcome = fusion.apply(&batch);
        self.decisions += outcome.decisions.len();
        *since += 1;
        if *since >= SNAPSHOT_EVERY || !outcome.decisions.is_empty() {
            std::hint::black_box(fusion.snapshot()?);
            *since = 0;
        }
        Ok(())
    }
}

/// Appends and applies at the same time.
async fn live_round(bus: &SharedBus, log: &Log) -> Result<Turn> {
    let mut subscription = bus.subscribe(Topic::Signals, group::FUSE, Start::Acknowledged).await?;
    // It has its partitions before the clock starts.
    subscription.next(1).await?;
    let (began, used) = (Instant::now(), processor_seconds().0);
    let records = log.len();
    let fusing = tokio::spawn(async move {
        let mut fusing = Fusing::new();
        let mut taken = 0;
        while taken < records {
            taken += take(&mut subscription, &mut fusing).await?;
        }
        Ok::<_, anyhow::Error>(fusing.decisions)
    });
    log.append(bus).await?;
    let decisions = fusing.await??;
    anyhow::ensure!(decisions > 0, "nothing was decided");
    Ok(turn(log, began, used))
}

/// Takes and applies what comes next; returns how many records.
async fn take(subscription: &mut Box<dyn Subscription>, fusing: &mut Fusing) -> Result<u64> {
    let Next::Records(received) = subscription.next(BATCH).await? else { return Ok(0) };
    let mut last = HashMap::new();
    for one in &received {
        fusing.apply(&one.record)?;
        last.insert(one.position.partition, one.position);
    }
    for position in last.into_values() {
        subscription.acknowledge(position).await?;
    }
    Ok(received.len() as u64)
}

/// Applies what lies there already.
async fn backlog_round(bus: &SharedBus, log: &Log) -> Result<Turn> {
    let mut subscription = bus.subscribe(Topic::Signals, "again", Start::Acknowledged).await?;
    let (began, used) = (Instant::now(), processor_seconds().0);
    let mut fusing = Fusing::new();
    let rate = read(&mut subscription, log.len(), |received| fusing.apply(&received.record)).await?;
    Ok(Turn { rate: rate * log.values as f64 / log.len() as f64, ..turn(log, began, used) })
}

fn turn(log: &Log, began: Instant, used: f64) -> Turn {
    let values = log.values as f64;
    let per_core = values / (processor_seconds().0 - used).max(0.01);
    Turn { rate: values / began.elapsed().as_secs_f64(), per_core }
}

pub async fn run(broker: Option<&Broker>, common: &Common) -> Result<Table> {
    let log = Log::new(common.streams, common.seconds)?;
    let (records, values) = (log.len(), log.values);
    eprintln!("{values} signals of {} streams, {} rounds", common.streams, common.rounds);
    let names = [
        "embedded: appended and applied at the same time",
        "embedded: a backlog is applied",
        "Kafka: appended and applied at the same time",
        "Kafka: a backlog is applied",
    ];
    let mut contest = Contest::new(if broker.is_some() { &names } else { &names[..2] });
    // The first round only warms up: the broker's compiler, the disk's cache.
    for round in 0..=common.rounds {
        eprintln!("round {round}");
        let mut push = |contender, turn| {
            if round > 0 {
                contest.push(contender, turn);
            }
        };
        let folder = common.out.join("embedded");
        let embedded: SharedBus = crest_bus::open(&folder, crest_bus::BusConfig::default())?;
        push(0, live_round(&embedded, &log).await?);
        push(1, backlog_round(&embedded, &log).await?);
        drop(embedded);
        std::fs::remove_dir_all(&folder)?;
        let Some(broker) = broker else { continue };
        let prefix = broker.prefix();
        let kafka = bus(&broker.brokers, &prefix).await?;
        push(2, live_round(&kafka, &log).await?);
        push(3, backlog_round(&kafka, &log).await?);
        drop(kafka);
        broker.forget(&prefix).await?;
    }
    let heading = format!(
        "Signals through bus and fusion: {} streams, {} records of {} bytes, {} values",
        common.streams,
        grouped(records as f64),
        log.bytes as u64 / records.max(1),
        grouped(values as f64),
    );
    let columns = ["", "values/s", "records/s", "spread", "values per second of crest's processor time"];
    let mut table = Table::new(heading, &columns);
    contest.rows(&mut table, |rate| grouped(rate * records as f64 / values as f64), false);
    Ok(table)
}
