//! What stands in the logs of the bus, whichever bus it is.

use anyhow::{Result, ensure};
use crest_bus::EmbeddedBus;
use crest_core::StreamId;
use crest_core::bus::{Bus, Next, Record, Start};
use crest_core::segment::Fragment;
use crest_core::topic::Topic;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A record, without its place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its stream.
    pub key: StreamId,
    /// Version of its schema.
    pub version: u16,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// The logs that a crest left behind; the records of a stream are in order.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    /// `chat.messages`.
    pub chat: Vec<Entry>,
    /// `signals`.
    pub signals: Vec<Entry>,
    /// `media.segments`.
    pub segments: Vec<Entry>,
    /// Why records were set aside.
    pub set_aside: Vec<String>,
}

impl Logs {
    /// Those of an embedded bus that nobody uses any more.
    pub async fn embedded(data: &Path) -> Result<Self> {
        let bus = crest_bus::open(&data.join("bus"), crest_bus::BusConfig::default())?;
        let mut set_aside = Vec::new();
        for topic in Topic::ALL.into_iter().filter(|topic| topic.durable()) {
            set_aside.extend(bus.dead_letters(topic, 1000)?.into_iter().map(|letter| letter.reason));
        }
        Ok(Self {
            chat: records(&bus, Topic::ChatMessages).await?,
            signals: records(&bus, Topic::Signals).await?,
            segments: records(&bus, Topic::MediaSegments).await?,
            set_aside,
        })
    }

    /// Where the feed was never cut off: the media of each session is told of from its first frame to its
    /// last without a gap.
    pub fn segments_are_complete(&self) -> Result<()> {
        let mut ends: BTreeMap<(StreamId, u32), f64> = BTreeMap::new();
        for entry in &self.segments {
            let fragment = Fragment::decode(&entry.payload)?;
            let (start, end) = (fragment.start.secs_f64(), fragment.end.secs_f64());
            let known = ends.entry((entry.key.clone(), fragment.session.number())).or_insert(start);
            // What was told again after an answer got lost may come twice.
            ensure!(start <= *known + 0.1, "no media of {known} to {start} s: {fragment:?}");
            *known = known.max(end);
        }
        ensure!(!ends.is_empty(), "no media at all");
        Ok(())
    }
}

async fn records(bus: &Arc<EmbeddedBus>, topic: Topic) -> Result<Vec<Entry>> {
    let mut reader = bus.subscribe(topic, "ledger", Start::Rewound(u64::MAX)).await?;
    let (mut all, mut end) = (Vec::new(), None);
    while end != Some(0) {
        match reader.next(1000).await? {
            Next::Assigned(assigned) => end = assigned.first().map(|a| a.end.saturating_sub(a.first)),
            Next::Revoked(_) => {}
            Next::Records(records) => {
                end = end.map(|end| end.saturating_sub(records.len() as u64));
                all.extend(records.into_iter().map(|received| {
                    let Record { key, schema_version: version, payload, .. } = received.record;
                    Entry { key, version, payload: payload.to_vec() }
                }));
            }
        }
    }
    Ok(all)
}
