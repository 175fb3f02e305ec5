//! Memory of a process that reads, with a small and with a twenty times larger backlog.

use anyhow::{Context, ensure};

use crest_core::bus::Start;

use crate::append::{TOPIC, append};
use crate::broker::{Broker, bus, megabytes};
use crate::read::read;
use crate::table::{Table, grouped, median, peak_kib};
use crate::{Common, Result};

/// How much larger the large backlog is.
const TIMES: u64 = 20;

/// Reads the backlog and prints how much memory that took: the process that is measured does nothing else.
pub async fn reader(brokers: &str, prefix: &str, group: &str, records: u64) -> Result<()> {
    let bus = bus(brokers, prefix).await?;
    let mut subscription = bus.subscribe(TOPIC, group, Start::Acknowledged).await?;
    read(&mut subscription, records, |_| Ok(())).await?;
    println!("{}", peak_kib());
    Ok(())
}

pub async fn run(broker: &Broker, common: &Common) -> Result<Table> {
    let sizes = [common.backlog, common.backlog * TIMES];
    let mut peaks = Vec::new();
    let mut table = Table::new(
        "Memory of a process that reads a backlog",
        &["records", "MiB", "peak of resident memory, MiB", "large : small"],
    );
    for records in sizes {
        eprintln!("memory with a backlog of {records} records");
        let prefix = broker.prefix();
        append(&bus(&broker.brokers, &prefix).await?, records, common.bytes).await?;
        let mut of_rounds = Vec::new();
        for round in 0..common.rounds {
            let mut child = tokio::process::Command::new(std::env::current_exe()?);
            child.args(["reader", &broker.brokers, &prefix, &format!("memory-{round}")]);
            let ran = child.args(["--records", &records.to_string()]).output().await?;
            ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            of_rounds.push(String::from_utf8(ran.stdout)?.trim().parse::<f64>().context("the reader said no number")?);
        }
        broker.forget(&prefix).await?;
        let (peak, _) = median(&of_rounds);
        peaks.push(peak);
        let ratio = if peaks.len() > 1 { format!("{:.2}", peak / peaks[0]) } else { String::new() };
        let (count, size) = (grouped(records as f64), format!("{:.0}", megabytes(records, common.bytes)));
        table.row(vec![count, size, format!("{:.1}", peak / 1024.0), ratio]);
    }
    Ok(table)
}
