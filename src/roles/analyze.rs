//! Analyze: samples, chat and marks become the signals log.

use crest_analyzers::SessionAnalyzers;
use crest_core::bus::{Next, Partition, Position, Received, Record, Start};
use crest_core::chat::{ChatMessage, Mark};
use crest_core::crash::{Stage, around};
use crest_core::sample::{AudioWindow, VideoBatch};
use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::stream::SessionRow;
use crest_core::topic::{Topic, group};
use crest_core::{OrganizationId, Result, Session, StreamId};
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

use super::{insist, next};
use crate::serve::Parts;

/// Chat that is looked at again after a start, so that a bucket that was being counted is counted
/// whole: more than any audience writes while late messages still arrive.
const REWIND_CHAT: u64 = 50_000;
/// Samples that are looked at again, so that what compares with the sample before has one. On the embedded
/// bus there are none after a start.
const REWIND_MEDIA: u64 = 256;
/// Sessions a topic's analyzers keep; the one that was silent longest goes first.
const MAX_SESSIONS: usize = 4096;
/// How often it is looked whether sessions are over.
const TIDY: Duration = Duration::from_secs(5);
/// A session that said nothing for so long may be over.
const SILENT: Duration = Duration::from_secs(10);

/// Runs one loop per topic until shutdown.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let mut loops = JoinSet::new();
    loops.spawn(follow(parts.clone(), Topic::MediaVideo, Start::Rewound(REWIND_MEDIA)));
    loops.spawn(follow(parts.clone(), Topic::MediaAudio, Start::Rewound(REWIND_MEDIA)));
    loops.spawn(follow(parts.clone(), Topic::ChatMessages, Start::Rewound(REWIND_CHAT)));
    loops.spawn(follow(parts, Topic::Marks, Start::Acknowledged));
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    Ok(())
}

async fn follow(parts: Parts, topic: Topic, start: Start) -> anyhow::Result<()> {
    let mut subscription = parts.bus.subscribe(topic, group::ANALYZE, start).await?;
    let mut sessions = Sessions::default();
    let mut tidied = Instant::now();
    loop {
        let told = {
            // Not asked anew: what is large and lies elsewhere may take longer to come.
            let mut told = pin!(next(&mut subscription, &parts.shutdown));
            loop {
                let told = tokio::time::timeout(TIDY, told.as_mut()).await;
                if told.is_err() || tidied.elapsed() >= TIDY {
                    sessions.tidy(&parts).await;
                    tidied = Instant::now();
                }
                if let Ok(told) = told {
                    break told;
                }
            }
        };
        let received = match told {
            Some(Next::Records(received)) => received,
            Some(Next::Assigned(assigned)) => {
                // Its records come again from before; what is known of them would be counted twice.
                sessions.let_go(|partition| assigned.iter().any(|a| a.partition == partition));
                continue;
            }
            Some(Next::Revoked(revoked)) => {
                sessions.let_go(|partition| revoked.contains(&partition));
                continue;
            }
            None => return Ok(()),
        };
        let (mut records, mut causes) = (Vec::new(), Vec::new());
        let mut done: BTreeMap<Partition, u64> = BTreeMap::new();
        for item in &received {
            done.insert(item.position.partition, item.position.offset);
            match sessions.analyze(topic, item) {
                // Its signals are in the log already; it was looked at for what follows.
                _ if item.seen => {}
                Ok(Some(batch)) => {
                    let record = Record::new(Topic::Signals, item.record.key.clone(), batch.encode()?);
                    records.push(record.traced(item.record.trace));
                    causes.push(item);
                }
                Ok(None) => {}
                Err(error) => {
                    let set_aside = || parts.bus.dead_letter(topic, item, &error.message);
                    if insist("setting a record aside", &parts.shutdown, set_aside).await?.is_none() {
                        return Ok(());
                    }
                }
            }
        }
        if !append(&parts, topic, &records, &causes).await? {
            return Ok(());
        }
        for (partition, offset) in done {
            if let Err(error) = subscription.acknowledge(Position { partition, offset }).await {
                // The next acknowledgement covers this one; after a start the same values are appended again.
                tracing::warn!(topic = topic.name(), %error, "analysed records could not be acknowledged");
            }
        }
    }
}

/// Appends signals; `false` when it is time to stop. What the bus refuses for good must not hold up what
/// follows: then each is appended alone, and the record that such a one was made of is set aside.
async fn append(parts: &Parts, topic: Topic, records: &[Record], causes: &[&Received]) -> Result<bool> {
    if records.is_empty() {
        return Ok(true);
    }
    let whole = || around(Stage::Analyze, parts.bus.append(Topic::Signals, records.to_vec()));
    match insist("appending signals", &parts.shutdown, whole).await {
        Ok(done) => return Ok(done.is_some()),
        Err(error) => tracing::error!(topic = topic.name(), %error, "signals are appended one by one"),
    }
    for (record, cause) in records.iter().zip(causes) {
        let alone = || parts.bus.append(Topic::Signals, vec![record.clone()]);
        let done = match insist("appending signals", &parts.shutdown, alone).await {
            Err(error) => {
                let set_aside = || parts.bus.dead_letter(topic, cause, &error.message);
                insist("setting a record aside", &parts.shutdown, set_aside).await?
            }
            Ok(done) => done,
        };
        if done.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One session's analyzers, and when they were last given something.
struct Kept {
    analyzers: SessionAnalyzers,
    partition: Partition,
    used: Instant,
}

/// The analyzers of every session that a topic carries.
#[derive(Default)]
struct Sessions {
    kept: HashMap<(StreamId, Session), Kept>,
}

impl Sessions {
    fn analyze(&mut self, topic: Topic, item: &Received) -> Result<Option<SignalBatch>> {
        let (key, payload) = ((&item.record.key, item.position.partition), &item.record.payload);
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

    /// Forgets the sessions of these partitions.
    fn let_go(&mut self, gone: impl Fn(Partition) -> bool) {
        self.kept.retain(|_, kept| !gone(kept.partition));
    }

    fn of(&mut self, (stream, partition): (&StreamId, Partition), session: Session) -> &mut SessionAnalyzers {
        // An earlier session of the stream is over once a later one speaks.
        self.kept.retain(|(s, n), _| s != stream || *n >= session);
        if self.kept.len() >= MAX_SESSIONS {
            let silent = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            silent.map(|key| self.kept.remove(&key));
        }
        let fresh = || Kept { analyzers: SessionAnalyzers::default(), partition, used: Instant::now() };
        let kept = self.kept.entry((stream.clone(), session)).or_insert_with(fresh);
        kept.used = Instant::now();
        &mut kept.analyzers
    }

    /// Lets go of sessions that are silent because they are over. The clock decides only when it is
    /// asked; where the store does not answer, it is asked again.
    async fn tidy(&mut self, parts: &Parts) {
        let silent: Vec<_> =
            self.kept.iter().filter(|(_, k)| k.used.elapsed() >= SILENT).map(|(k, _)| k.clone()).collect();
        for (stream, session) in silent {
            let Ok(sessions) = parts.store.sessions(&stream).await else { return };
            let over = |row: &SessionRow| row.session > session || (row.session == session && row.ended_at.is_some());
            if sessions.iter().any(over) {
                self.kept.remove(&(stream, session));
            }
        }
    }
}
