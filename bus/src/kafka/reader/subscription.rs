//! A subscription: takes what its thread has read.

use async_trait::async_trait;
use std::sync::Arc;

use crest_core::bus::{Next, Position, Start, Subscription};
use crest_core::{Error, Result};

use super::super::claims::{Claims, Unclaimed};
use super::super::dead_letters::DeadLetters;
use super::super::metrics;
use super::super::wire::Content;
use super::members::Seat;
use super::state::{Item, Shared, Taken};

pub(crate) struct Reader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) dead_letters: Arc<DeadLetters>,
}

impl Reader {
    /// Does what is to be done before a record can be handed out, or sets it aside.
    async fn finish(&self, item: Item) -> Result<()> {
        let reason = match &item.content {
            Content::Whole(_) => return Ok(()),
            Content::Unreadable(reason) => reason.clone(),
            Content::Claimed(record, key) => match self.claims.get(self.shared.name(), key).await {
                Ok(payload) => {
                    let mut record = record.clone();
                    record.payload = payload;
                    self.shared.lock().finish(&item, Content::Whole(record));
                    return Ok(());
                }
                Err(Unclaimed::Later(error)) => return Err(error),
                Err(Unclaimed::Gone(reason)) => reason,
            },
        };
        // Seen before: it was set aside then.
        if !item.seen {
            let raw = item.raw.as_deref().cloned().unwrap_or_default();
            self.dead_letters.add(self.shared.topic, item.position, raw, &reason).await?;
        }
        self.shared.lock().pass_over(&item);
        Ok(())
    }
}

#[async_trait]
impl Subscription for Reader {
    /// What is told is taken only when it is returned, so giving up loses nothing.
    async fn next(&mut self, max: usize) -> Result<Next> {
        self.shared.entered();
        loop {
            let mut news = std::pin::pin!(self.shared.news.notified());
            news.as_mut().enable();
            match self.shared.take(max.max(1)) {
                Taken::Told(next) => {
                    metrics::told(&self.shared, &next);
                    return Ok(next);
                }
                Taken::Failed(error) => return Err(error),
                Taken::Unfinished(item) => self.finish(item).await?,
                Taken::Nothing => {
                    let _waits = self.shared.waits();
                    news.await;
                }
            }
        }
    }

    async fn begin(&mut self, position: Position) -> Result<()> {
        if self.shared.start != Start::Asked {
            return Err(Error::ours(format!("a subscription of {} begins by itself", self.shared.topic.name())));
        }
        self.shared.lock().begin(position);
        self.shared.signal.raise();
        Ok(())
    }

    async fn acknowledge(&mut self, position: Position) -> Result<()> {
        let wake = self.shared.lock().acknowledge(position).map_err(|()| {
            Error::ours(format!(
                "group {} acknowledges {position} of {}, which it was not handed",
                self.shared.group,
                self.shared.topic.name()
            ))
        })?;
        if wake {
            self.shared.signal.raise();
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.seat.leaving();
        self.shared.lock().closing = true;
        self.shared.signal.raise();
    }
}
