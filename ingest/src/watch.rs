//! What other processes did to streams, seen from one that takes feeds: what they took over or ended is let
//! go, and what they left when they went is brought to its end.
//!
//! What is true stands in the store, and is looked at there every few seconds; the topic `control` only
//! makes it sooner.

use crest_core::instance::{self, BEAT, Heard};
use crest_core::key::KeyDigest;
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::{Fault, Result, Session, StreamId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{Command, Shared};
use crate::pull::Pulls;
use crate::recent::Recent;
use crate::registry::Registry;
use crate::states::now;

/// Looks at the streams that go on.
pub(crate) struct Watch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Arc<Registry>,
    /// Streams that were asked to be stopped.
    pub(crate) asked: Arc<Recent>,
    /// What this process pulls.
    pub(crate) pulls: Arc<Pulls>,
    /// Processes that take feeds.
    pub(crate) heard: Heard,
    /// Interrupted streams that nobody waits for, and since when.
    pub(crate) left: HashMap<(StreamId, Session), Instant>,
}

impl Watch {
    /// Runs until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                looked = self.look() => if let Err(error) = looked {
                    tracing::warn!(%error, "streams of other processes could not be looked at; the next round tries again");
                }
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        let store = &self.shared.store;
        let mut going_on =
            store.streams_in(&[StreamState::Created, StreamState::Live, StreamState::Interrupted]).await?;
        // Afterwards: a process says that it is there before it takes a stream.
        let instances = store.instances().await?;
        self.heard.note(&instances, Instant::now(), now());
        self.pull(&going_on, &instances);
        // One that was asked to be stopped before it began has no task that ends it.
        let is_to_end = |s: &Stream| s.source == SourceKind::Url && self.asked.knows(&s.id);
        going_on.retain(|stream| stream.state != StreamState::Created || is_to_end(stream));
        let own: HashMap<_, _> =
            going_on.iter().filter(|stream| self.is_own(stream)).map(|s| (&s.id, s.state)).collect();
        for id in self.registry.ids() {
            let as_it_should_be = match own.get(&id) {
                Some(StreamState::Interrupted) => !self.registry.is_fed(&id),
                Some(_) => true,
                // It was not begun yet, or somebody else feeds it or has ended it.
                None => false,
            };
            if !as_it_should_be && let Some(inbox) = self.registry.inbox(&id) {
                // With a full inbox it is looked at the next time.
                let _ = inbox.try_send(Command::Look);
            }
        }
        for stream in going_on.iter().filter(|stream| self.is_own(stream)) {
            if let Some(inbox) = self.registry.inbox(&stream.id) {
                // Its key may have been replaced, and word of it lost.
                let _ = inbox.try_send(Command::Rekeyed(KeyDigest::of(&stream.stream_key)));
            }
        }
        let mut left = HashMap::new();
        for stream in &going_on {
            if !self.is_left(stream) {
                continue;
            }
            let taken = self.settle(stream, &mut left).await;
            match taken {
                // Somebody else did it, or feeds the stream by now.
                Err(error) if error.fault == Fault::Conflict => {}
                Err(error) => {
                    tracing::warn!(stream_id = %stream.id, %error, "a stream that its process left could not be settled");
                }
                Ok(()) => {}
            }
        }
        self.left = left;
        Ok(())
    }

    /// Pulls what is this process's to pull: what it was asked to and missed, and its share of what others left.
    fn pull(&self, streams: &[Stream], instances: &[instance::Instance]) {
        let at = Instant::now();
        let there: Vec<_> =
            instances.iter().filter(|i| i.addresses.is_some() && !self.heard.quiet(&i.id, at)).cloned().collect();
        for stream in streams.iter().filter(|stream| stream.source == SourceKind::Url) {
            let left = || stream.instance.as_ref().is_none_or(|instance| self.heard.absent(instance, at));
            let share = || instance::puller(&stream.id, &there).is_some_and(|chosen| chosen.id == self.shared.instance);
            if !self.asked.knows(&stream.id) && (self.is_own(stream) || (left() && share())) {
                self.pulls.start(stream.clone());
            }
        }
    }

    fn is_own(&self, stream: &Stream) -> bool {
        stream.instance.as_ref() == Some(&self.shared.instance)
    }

    /// Whether no process feeds it or waits for its publisher.
    fn is_left(&self, stream: &Stream) -> bool {
        match &stream.instance {
            None => true,
            Some(instance) if *instance == self.shared.instance => self.registry.inbox(&stream.id).is_none(),
            Some(other) => self.heard.absent(other, Instant::now()),
        }
    }

    /// A stream that was left: interrupted, and ended when its publisher had as long to come back as with
    /// any other interruption.
    async fn settle(&self, stream: &Stream, left: &mut HashMap<(StreamId, Session), Instant>) -> Result<()> {
        let steps = self.shared.steps();
        if self.asked.knows(&stream.id) {
            return steps.end_left(stream, "stopped").await;
        }
        let Some(session) = stream.session else { return Ok(()) };
        if stream.state == StreamState::Live {
            // It may have died between allocating the session and beginning its log.
            steps.begin_log_again(stream).await?;
            steps.interrupt(stream, "its server is gone").await?;
        }
        let key = (stream.id.clone(), session);
        let since = self.left.get(&key).copied().unwrap_or_else(Instant::now);
        let reconnect = self.shared.patience(stream);
        if since.elapsed() < reconnect {
            left.insert(key, since);
            return Ok(());
        }
        steps.end_left(stream, &format!("did not come back within {} s", reconnect.as_secs_f64())).await
    }
}
