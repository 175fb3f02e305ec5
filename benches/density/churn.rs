//! Whether memory is back where it was after many feeds have come and gone.

use anyhow::Result;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

use crate::Common;
use crate::crest::{Api, Crest};
use crate::load::Load;
use crate::proc;
use crate::server::{address, create, sum};
use crate::table::Table;

/// How long the feeds of a round are live together.
const LIVE: Duration = Duration::from_secs(5);
/// Rest after a round: decoders are let go after 20 s, what the bus holds after 10 s, and crest gives free memory back
/// every 30 s.
const REST: Duration = Duration::from_secs(75);

/// Lets `count` feeds come and go, `at_once` at a time. The first round warms up: pools and caches fill to their bounds.
pub async fn run(common: &Common, file: &Path, count: usize, at_once: usize) -> Result<Table> {
    let crest = Crest::start(&common.crest, &common.out.join("churn.log")).await?;
    let (address, _) = address(&crest.rtmp)?;
    let api = crest.operator()?;
    let columns = ["feeds that came and went", "resident memory, MB", "of it anonymous", "allocated", "at most so far"];
    let mut table = Table::new(format!("Memory while feeds come and go, {at_once} at a time"), &columns);
    note(&mut table, &crest, &api, 0).await?;
    let (quarter, mut looked) = (count.div_ceil(4), 0);
    let mut gone = 0;
    while gone < count {
        let streams = create(&crest, at_once.min(count - gone)).await?;
        let keys: Vec<String> = streams.iter().map(|(_, key)| key.clone()).collect();
        let load = Load::start(file, &address, &keys).await?;
        tokio::time::sleep(LIVE).await;
        load.stop().await?;
        for (id, _) in &streams {
            api.post(&format!("/v1/streams/{id}/stop"), json!({})).await?;
        }
        gone += streams.len();
        if looked == 0 || gone >= looked + quarter || gone >= count {
            tokio::time::sleep(REST).await;
            note(&mut table, &crest, &api, gone).await?;
            looked = gone;
        }
    }
    crest.stop().await?;
    Ok(table)
}

/// What is held after so many feeds; what of it is allocated crest says itself.
async fn note(table: &mut Table, crest: &Crest, api: &Api, gone: usize) -> Result<()> {
    let (memory, metrics) = (proc::memory(crest.pid)?, api.text("/metrics").await?);
    let allocated = sum(&metrics, "crest_memory_allocated_bytes");
    let bytes = [memory.now, memory.anonymous, allocated, memory.peak];
    table.row([vec![gone.to_string()], bytes.map(|bytes| format!("{:.1}", bytes / 1e6)).to_vec()].concat());
    Ok(())
}
