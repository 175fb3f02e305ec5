//! Control: how the API steers feeds that other processes have. It asks on the topic `control`, which every
//! process that takes feeds follows, and sees in the store what became of it.

use async_trait::async_trait;
use crest_core::bus::{Next, Position, Received, Record, Start};
use crest_core::control::Control;
use crest_core::feeds::{Addresses, FeedControl};
use crest_core::instance::{self, Instance, InstanceId, QUIET};
use crest_core::space::Room;
use crest_core::stream::Stream;
use crest_core::topic::Topic;
use crest_core::{Error, Fault, Result, StreamId};
use crest_ingest::{Ears, Steps};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{insist, next, now};
use crate::serve::Parts;

/// How long the process that has a feed may take to end it before whoever asked is told to wait: until one
/// that was killed is known to be gone, and some more.
const PATIENCE: Duration = QUIET.saturating_add(Duration::from_secs(3));
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// Steers feeds wherever they are.
pub struct Remote {
    parts: Parts,
    /// The feeds of this process, if it takes any.
    own: Option<Arc<dyn FeedControl>>,
}

impl Remote {
    /// From an API with these parts.
    pub fn new(parts: Parts, own: Option<Arc<dyn FeedControl>>) -> Self {
        Self { parts, own }
    }

    /// The processes that are there and take feeds.
    async fn there(&self) -> Result<Vec<Instance>> {
        let instances = self.parts.store.instances().await?;
        let Some(heard) = &self.parts.others else { return Ok(Vec::new()) };
        let at = Instant::now();
        heard.note(&instances, at, now());
        let there = |instance: &Instance| instance.addresses.is_some() && !heard.quiet(&instance.id, at);
        Ok(instances.into_iter().filter(there).collect())
    }

    /// Whether no process is there that feeds the stream or waits for its publisher.
    async fn is_left(&self, stream: &Stream) -> Result<bool> {
        let (Some(heard), Some(instance)) = (&self.parts.others, &stream.instance) else { return Ok(true) };
        if heard.quiet(instance, Instant::now()) {
            heard.note(&self.parts.store.instances().await?, Instant::now(), now());
        }
        Ok(heard.quiet(instance, Instant::now()))
    }
}

#[async_trait]
impl FeedControl for Remote {
    async fn stop(&self, stream: &Stream) -> Result<()> {
        let Parts { store, entry, links, .. } = &self.parts;
        let look = || store.stream(&stream.organization_id, &stream.id);
        let asked = Control::Stop { stream_id: stream.id.clone() };
        let mut record = Some(Record::new(Topic::Control, stream.id.clone(), asked.encode()?));
        let end = Instant::now() + PATIENCE;
        loop {
            let Some(stream) = look().await?.filter(|stream| !stream.state.is_over()) else { return Ok(()) };
            if let Some(record) = record.take() {
                entry.append(Topic::Control, vec![record]).await?;
            }
            if self.is_left(&stream).await? {
                let steps = Steps { store, bus: entry, links };
                match steps.end_left(&stream, "stopped").await {
                    // Somebody feeds it after all, or has ended it.
                    Err(error) if error.fault == Fault::Conflict => {}
                    ended => return ended,
                }
            } else if Instant::now() >= end {
                return Err(Error::outside(format!(
                    "the process that has stream {} does not answer; the stream is stopped when it does",
                    stream.id
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn rekeyed(&self, stream: &Stream) -> Result<()> {
        let asked = Control::Rekeyed { organization_id: stream.organization_id.clone(), stream_id: stream.id.clone() };
        let record = Record::new(Topic::Control, stream.id.clone(), asked.encode()?);
        self.parts.entry.append(Topic::Control, vec![record]).await
    }

    fn room(&self) -> Room {
        self.own.as_ref().map_or(Room::Ample, |own| own.room())
    }

    async fn addresses(&self) -> Result<Option<Addresses>> {
        if let Some(own) = &self.own {
            return own.addresses().await;
        }
        let there = self.there().await?.into_iter().max_by_key(|instance| instance.seen_at);
        let mut addresses = there.and_then(|instance| instance.addresses);
        // What publishers are told to connect to may stand in front of processes that come and go.
        if let Some(url) = &self.parts.config.rtmp.public_url {
            addresses.get_or_insert_default().rtmp = Some(url.trim_end_matches('/').to_owned());
        }
        if let Some(url) = &self.parts.config.srt.public_url {
            addresses.get_or_insert_default().srt = Some(url.trim_end_matches('/').to_owned());
        }
        if let Some(url) = &self.parts.config.webrtc.public_url {
            addresses.get_or_insert_default().whip = Some(url.trim_end_matches('/').to_owned());
        }
        if let Some(url) = &self.parts.config.rtmp.tls_public_url {
            addresses.get_or_insert_default().rtmps = Some(url.trim_end_matches('/').to_owned());
        }
        Ok(addresses)
    }

    async fn puller(&self, stream: &StreamId) -> Result<Option<InstanceId>> {
        Ok(instance::puller(stream, &self.there().await?).map(|instance| instance.id.clone()))
    }

    async fn pull(&self, stream: &Stream) -> Result<()> {
        let (organization_id, stream_id) = (stream.organization_id.clone(), stream.id.clone());
        let asked = Control::Pull { organization_id, stream_id };
        let record = Record::new(Topic::Control, stream.id.clone(), asked.encode()?);
        self.parts.entry.append(Topic::Control, vec![record]).await
    }
}

/// Does what others ask on the topic, until shutdown. After a restart, also what was asked meanwhile.
pub async fn follow(parts: Parts, ears: Ears) -> anyhow::Result<()> {
    let group = format!("control-{}", parts.instance);
    let subscribe = || parts.bus.subscribe(Topic::Control, &group, Start::Acknowledged);
    let Some(mut subscription) = insist("following what others ask", &parts.shutdown, subscribe).await? else {
        return Ok(());
    };
    while let Some(next) = next(&mut subscription, &parts.shutdown).await {
        let Next::Records(received) = next else { continue };
        let mut done = BTreeMap::new();
        for item in &received {
            done.insert(item.position.partition, item.position.offset);
            if let Err(error) = hear(&ears, item).await {
                let set_aside = || parts.bus.dead_letter(Topic::Control, item, &error.message);
                if insist("setting a record aside", &parts.shutdown, set_aside).await?.is_none() {
                    return Ok(());
                }
            }
        }
        for (partition, offset) in done {
            if let Err(error) = subscription.acknowledge(Position { partition, offset }).await {
                // The next acknowledgement covers this one; what is asked twice is done once.
                tracing::warn!(topic = Topic::Control.name(), %error, "what others asked could not be acknowledged");
            }
        }
    }
    Ok(())
}

async fn hear(ears: &Ears, item: &Received) -> Result<()> {
    ears.hear(&Control::decode(&item.record.payload)?).await;
    Ok(())
}
