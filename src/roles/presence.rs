//! Presence: where several processes share a database, each says that it is there, and listens for those
//! that take feeds.

use anyhow::bail;
use crest_core::Result;
use crest_core::feeds::Addresses;
use crest_core::instance::{BEAT, Heard, Instance};
use crest_core::store::SharedStore;
use std::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::now;
use crate::config::BusKind;
use crate::serve::Parts;

/// Tells the others of this process.
pub struct Presence {
    store: SharedStore,
    me: Instance,
    /// `None` where there are no others: the database is this process's own.
    heard: Option<Heard>,
    /// Whether there may be no others although the database could be shared.
    alone: bool,
    shutdown: CancellationToken,
}

impl Presence {
    /// Of this process.
    pub fn new(parts: &Parts) -> Self {
        let shared = parts.config.database.url.is_some();
        Self {
            store: parts.store.clone(),
            me: Instance {
                id: parts.instance.clone(),
                roles: parts.roles.to_string(),
                addresses: None,
                seen_at: now(),
            },
            heard: shared.then(|| parts.others.clone().unwrap_or_default()),
            alone: parts.config.bus.kind == BusKind::Embedded,
            shutdown: parts.shutdown.clone(),
        }
    }

    /// The first time: before anything is done that others would wonder whose it is.
    pub async fn begin(&mut self) -> anyhow::Result<()> {
        let Some(heard) = self.heard.clone() else { return Ok(()) };
        let others = self.store.instances().await?;
        heard.note(&others, Instant::now(), now());
        let other = others.iter().find(|other| other.id != self.me.id && !heard.quiet(&other.id, Instant::now()));
        if let (true, Some(other)) = (self.alone, other) {
            bail!(
                "database.url: another crest ({}) uses this database, and the embedded bus cannot be shared with it; \
                 stop that one and wait 15 s, or set bus.kind = \"kafka\" for both",
                other.id
            );
        }
        Ok(self.beat(&heard).await?)
    }

    /// Publishers are sent there from now on: whoever sees that this process is ready finds its address.
    pub async fn takes_feeds_at(&mut self, addresses: &Addresses) {
        self.me.addresses = Some(addresses.clone());
        let Some(heard) = self.heard.clone() else { return };
        if let Err(error) = self.beat(&heard).await {
            tracing::warn!(%error, "the other processes do not know yet where publishers are to connect to");
        }
    }

    /// Again and again, until shutdown.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let Some(heard) = self.heard.clone() else {
            self.shutdown.cancelled().await;
            return Ok(());
        };
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = beats.tick() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                beat = self.beat(&heard) => if let Err(error) = beat {
                    tracing::warn!(%error, "the other processes do not hear of this one; trying again in 5 s");
                }
            }
        }
    }

    async fn beat(&mut self, heard: &Heard) -> Result<()> {
        self.me.seen_at = now();
        self.store.beat(&self.me).await?;
        heard.note(&self.store.instances().await?, Instant::now(), now());
        Ok(())
    }
}
