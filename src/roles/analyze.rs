//! Analyze: samples, chat and marks become the signals log.

use crest_analyzers::SessionAnalyzers;
use crest_core::bus::{Received, Record, Start};
use crest_core::chat::{ChatMessage, Mark};
use crest_core::sample::{AudioWindow, VideoBatch};
use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::topic::Topic;
use crest_core::{OrganizationId, Result, Session, StreamId};
use std::collections::HashMap;
use tokio::task::JoinSet;

use super::{insist, next};
use crate::serve::Parts;

/// The consumer group of the analyzers.
const GROUP: &str = "analyze";
/// Sessions a topic's analyzers keep; the one that was silent longest goes first.
const MAX_SESSIONS: usize = 4096;

/// Runs one loop per topic until shutdown.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let mut loops = JoinSet::new();
    loops.spawn(follow(parts.clone(), Topic::MediaVideo, Start::Latest));
    loops.spawn(follow(parts.clone(), Topic::MediaAudio, Start::Latest));
    loops.spawn(follow(parts.clone(), Topic::ChatMessages, Start::Acknowledged));
    loops.spawn(follow(parts, Topic::Marks, Start::Acknowledged));
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    Ok(())
}

async fn follow(parts: Parts, topic: Topic, start: Start) -> anyhow::Result<()> {
    let mut subscription = parts.bus.subscribe(topic, GROUP, start).await?;
    let mut sessions = Sessions::default();
    while let Some(received) = next(&mut subscription, &parts.shutdown).await {
        let Some(last) = received.last().map(|r| r.position) else { continue };
        let mut records = Vec::new();
        for item in &received {
            match sessions.analyze(topic, item) {
                Ok(Some(batch)) => records.push(Record::new(Topic::Signals, item.record.key.clone(), batch.encode()?)),
                Ok(None) => {}
                Err(error) => parts.bus.dead_letter(topic, item, &error.message).await?,
            }
        }
        let append = || parts.bus.append(Topic::Signals, records.clone());
        if !records.is_empty() && insist("appending signals", &parts.shutdown, append).await.is_none() {
            break;
        }
        subscription.acknowledge(last).await?;
    }
    Ok(())
}

/// The analyzers of every session that a topic carries.
#[derive(Default)]
struct Sessions {
    analyzers: HashMap<(StreamId, Session), (SessionAnalyzers, u64)>,
    clock: u64,
}

impl Sessions {
    fn analyze(&mut self, topic: Topic, item: &Received) -> Result<Option<SignalBatch>> {
        let (key, payload) = (&item.record.key, &item.record.payload);
        let batch = |organization_id: OrganizationId, session, entries: Vec<SignalEntry>| {
            (!entries.is_empty()).then_some(SignalBatch { organization_id, session, entries })
        };
        Ok(match topic {
            Topic::MediaVideo => {
                let video = VideoBatch::decode(payload)?;
                let entries = self.of(key, video.session).video(&video);
                batch(video.organization_id, video.session, entries)
            }
            Topic::MediaAudio => {
                let window = AudioWindow::decode(payload)?;
                let entries = self.of(key, window.session).audio(&window);
                batch(window.organization_id, window.session, entries)
            }
            Topic::ChatMessages => {
                let message = ChatMessage::decode(payload)?;
                let entries = self.of(key, message.session).chat(std::slice::from_ref(&message));
                batch(message.organization_id, message.session, entries)
            }
            Topic::Marks => {
                let mark = Mark::decode(payload)?;
                batch(mark.organization_id, mark.session, vec![SignalEntry::Mark { at: mark.at }])
            }
            _ => None,
        })
    }

    fn of(&mut self, stream: &StreamId, session: Session) -> &mut SessionAnalyzers {
        self.clock += 1;
        // An earlier session of the stream is over once a later one speaks.
        self.analyzers.retain(|(s, n), _| s != stream || *n >= session);
        if self.analyzers.len() >= MAX_SESSIONS {
            let silent = self.analyzers.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            silent.map(|key| self.analyzers.remove(&key));
        }
        let entry = self.analyzers.entry((stream.clone(), session)).or_default();
        entry.1 = self.clock;
        &mut entry.0
    }
}
