//! Fuse: the signals log becomes decisions, committed with their events.
//!
//! Each partition of the log that this process is assigned is claimed in the store, and read from where
//! the store says that its commits ended. What an older claim commits is refused there, so that of two
//! processes that both take a partition for theirs, one decides.

use crest_core::bus::{Assigned, Next, Partition, Position, Received, Start, Subscription};
use crest_core::store::{Claimed, Committed};
use crest_core::topic::{Topic, group};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{insist, next, now};
use crate::serve::Parts;
use keep::keep;
use partition::PartitionFusion;
use resting::TIDY;

mod keep;
mod partition;
mod resting;
mod resume;

/// How long a process that lost a partition to another claim, and is not told that it is somebody
/// else's, waits before it claims it again: whoever holds it wrongly learns of it meanwhile.
const RECLAIM: Duration = Duration::from_secs(2);

/// Runs until shutdown.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let subscription = parts.bus.subscribe(Topic::Signals, group::FUSE, Start::Asked).await?;
    let mut fuse = Fuse { parts, subscription, partitions: BTreeMap::new(), lost: BTreeMap::new() };
    let mut tidied = Instant::now();
    while fuse.step().await?.is_some() {
        if tidied.elapsed() >= TIDY {
            tidied = Instant::now();
            if fuse.tidy().await?.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// The partitions that this process decides on.
struct Fuse {
    parts: Parts,
    subscription: Box<dyn Subscription>,
    partitions: BTreeMap<Partition, PartitionFusion>,
    /// Assigned, but claimed by somebody else: when that was noticed.
    lost: BTreeMap<Partition, (Assigned, Instant)>,
}

/// What a step ends with: `None` when it is time to stop.
type Going = anyhow::Result<Option<()>>;

impl Fuse {
    /// Takes what comes next from the log, or nothing for a while.
    async fn step(&mut self) -> Going {
        let patience = if self.lost.is_empty() { TIDY } else { RECLAIM };
        let told = tokio::time::timeout(patience, next(&mut self.subscription, &self.parts.shutdown)).await;
        match told {
            Ok(None) => return Ok(None),
            Ok(Some(Next::Assigned(assigned))) => {
                for assigned in assigned {
                    if self.take(assigned).await?.is_none() {
                        return Ok(None);
                    }
                }
            }
            Ok(Some(Next::Revoked(revoked))) => {
                for partition in revoked {
                    self.partitions.remove(&partition);
                    self.lost.remove(&partition);
                }
            }
            Ok(Some(Next::Records(received))) => {
                if self.apply(received).await?.is_none() {
                    return Ok(None);
                }
            }
            Err(_) => {}
        }
        self.reclaim().await
    }

    /// Claims a partition and goes on where its commits ended.
    async fn take(&mut self, assigned: Assigned) -> Going {
        let Parts { store, instance, shutdown, .. } = &self.parts;
        let claim = || store.claim_partition(assigned.partition, instance, now());
        let Some(claimed) = insist("claiming a partition of the signals log", shutdown, claim).await? else {
            return Ok(None);
        };
        let Claimed { claim, .. } = claimed;
        let (fusion, offset) = PartitionFusion::resume(claimed, assigned);
        tracing::info!(partition = claim.partition, epoch = claim.epoch, offset, "fusion goes on");
        self.partitions.insert(claim.partition, fusion);
        let begin = Position { partition: claim.partition, offset };
        while let Err(error) = self.subscription.begin(begin).await {
            tracing::error!(%error, "the signals log cannot be read; trying again in 1 s");
            tokio::select! {
                () = self.parts.shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
        Ok(Some(()))
    }

    /// Decides on what was received and commits it, partition by partition.
    async fn apply(&mut self, received: Vec<Received>) -> Going {
        let mut of: BTreeMap<Partition, Vec<Received>> = BTreeMap::new();
        for item in received {
            of.entry(item.position.partition).or_default().push(item);
        }
        for (partition, items) in of {
            let Some(fusion) = self.partitions.get_mut(&partition) else { continue };
            let at = now();
            let applied = fusion.apply(&items, &self.parts.links, at)?;
            for (item, reason) in applied.unreadable {
                let set_aside = || self.parts.bus.dead_letter(Topic::Signals, &items[item], &reason);
                if insist("setting a record aside", &self.parts.shutdown, set_aside).await?.is_none() {
                    return Ok(None);
                }
            }
            let Some(commit) = applied.commit else { continue };
            let (done, told) = (commit.offset, commit.decisions.len());
            match keep(&self.parts, commit, at).await? {
                None => return Ok(None),
                Some(Committed::Fenced) => self.lose(partition),
                Some(Committed::Kept) => {
                    metrics::counter!("crest_decisions_total").increment(told as u64);
                    let acknowledged = match done {
                        Some(offset) => self.subscription.acknowledge(Position { partition, offset }).await,
                        None => Ok(()),
                    };
                    if let Err(error) = acknowledged {
                        // It only says how far fusion is; the store knows where it goes on.
                        tracing::warn!(%error, "the signals log could not be acknowledged");
                    }
                }
            }
        }
        Ok(Some(()))
    }

    /// Forgets streams that are over.
    async fn tidy(&mut self) -> Going {
        let Some(commits) = resting::over(&mut self.partitions, &self.parts).await else { return Ok(Some(())) };
        for commit in commits {
            let partition = commit.claim.partition;
            match keep(&self.parts, commit, now()).await? {
                None => return Ok(None),
                Some(Committed::Fenced) => self.lose(partition),
                Some(Committed::Kept) => {}
            }
        }
        Ok(Some(()))
    }

    /// Lets go of a partition that somebody else has claimed.
    fn lose(&mut self, partition: Partition) {
        let Some(fusion) = self.partitions.remove(&partition) else { return };
        metrics::counter!("crest_fusion_fenced_total").increment(1);
        tracing::warn!(partition, "another process has claimed this partition; nothing of it is decided here");
        self.lost.insert(partition, (fusion.assigned(), Instant::now()));
    }

    /// Claims again what was lost and is still this process's as far as the bus knows.
    async fn reclaim(&mut self) -> Going {
        let due = self.lost.iter().filter(|(_, (_, since))| since.elapsed() >= RECLAIM);
        let due: Vec<Assigned> = due.map(|(_, (assigned, _))| *assigned).collect();
        for assigned in due {
            self.lost.remove(&assigned.partition);
            if self.take(assigned).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
}
