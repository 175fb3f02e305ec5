//! A bus that is away when a test says so.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

use crest_core::bus::{Bus, Received, Record, Start, Subscription};
use crest_core::topic::Topic;
use crest_core::{Error, Result};

use crate::conformance::LIMIT;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// Every append fails at once.
    Fails,
    /// No append is answered until the mode changes; then it has failed.
    Hangs,
    /// As before, but the records are there.
    TakesAndHangs,
}

/// The payload of a record that it never takes.
pub const REFUSED: &str = "refused";

pub struct Flaky {
    pub mode: watch::Sender<Mode>,
    taken: watch::Sender<Vec<(Topic, Record)>>,
}

impl Flaky {
    pub fn new(mode: Mode) -> Arc<Self> {
        Arc::new(Self { mode: watch::Sender::new(mode), taken: watch::Sender::default() })
    }

    /// Everything it took so far.
    pub fn taken(&self) -> Vec<(Topic, Record)> {
        self.taken.borrow().clone()
    }

    /// The numbers it took of each stream.
    pub fn numbers(&self, topic: Topic) -> BTreeMap<String, Vec<u64>> {
        let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (_, record) in self.taken.borrow().iter().filter(|(of, _)| *of == topic) {
            let number = std::str::from_utf8(&record.payload).unwrap().parse().unwrap();
            all.entry(record.key.to_string()).or_default().push(number);
        }
        all
    }

    /// Waits until what it took is so.
    pub async fn until(&self, what: &str, holds: impl Fn(&[(Topic, Record)]) -> bool) {
        let mut taken = self.taken.subscribe();
        let waited = tokio::time::timeout(LIMIT, taken.wait_for(|taken| holds(taken))).await;
        assert!(waited.is_ok(), "never: {what}; it took {} records", self.taken.borrow().len());
    }

    fn take(&self, topic: Topic, records: Vec<Record>) {
        self.taken.send_modify(|taken| taken.extend(records.into_iter().map(|record| (topic, record))));
    }

    async fn hang(&self, mode: Mode) -> Result<()> {
        let _ = self.mode.subscribe().wait_for(|now| *now != mode).await;
        Err(away())
    }
}

fn away() -> Error {
    Error::outside("no broker can be reached; check bus.brokers")
}

#[async_trait]
impl Bus for Flaky {
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<()> {
        let mode = *self.mode.borrow();
        match mode {
            Mode::Works if records.iter().any(|r| r.payload == REFUSED) => Err(Error::user("this one is refused")),
            Mode::Works => {
                self.take(topic, records);
                Ok(())
            }
            Mode::Fails => Err(away()),
            Mode::Hangs => self.hang(mode).await,
            Mode::TakesAndHangs => {
                self.take(topic, records);
                self.hang(mode).await
            }
        }
    }

    async fn subscribe(&self, _: Topic, _: &str, _: Start) -> Result<Box<dyn Subscription>> {
        Err(away())
    }

    async fn dead_letter(&self, _: Topic, _: &Received, _: &str) -> Result<()> {
        Err(away())
    }

    async fn flush(&self) -> Result<()> {
        match *self.mode.borrow() {
            Mode::Works => return Ok(()),
            Mode::Fails => return Err(away()),
            Mode::Hangs | Mode::TakesAndHangs => {}
        }
        std::future::pending().await
    }
}
