//! Feeds that crest fetches itself. One task per stream tries its source again and again, with pauses that
//! grow, until the source is over, somebody stops the stream, or its patience runs out.

mod address;
mod config;
mod decoding_order;
mod file;
mod hls;
mod http;
mod outlet;
mod pace;
mod page;
mod recorded;
mod resolve;
mod rtsp;
mod source;
mod turns;

pub(crate) use address::Allowed;
pub use config::{PullConfig, ResolverConfig};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use hls::playlist;

use crest_core::instance::Heard;
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::{Result, StreamId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::eventsub::{self, EventSub, Watching};
use crate::lifecycle::Ending;
use crate::pause::Pause;
use crate::states::now;
use outlet::Outlet;
use source::Sources;

/// So long before its own task would end it as if it were away, a stream is ended with what is wrong with its source.
const BEFORE: Duration = Duration::from_millis(250);
/// How long the first try waits to hear whether the channel is live.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// Why a source gives nothing at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It may later.
    Passing(String),
    /// It never will.
    Final(String),
}

/// The streams that this process pulls.
pub(crate) struct Pulls {
    admission: Arc<Admission>,
    sources: Arc<Sources>,
    config: PullConfig,
    eventsub: Arc<EventSub>,
    /// Which other processes were heard of; `None` where this is the only one.
    heard: Option<Heard>,
    running: Arc<Mutex<HashMap<StreamId, CancellationToken>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Pulls {
    /// The error names the setting that is wrong.
    pub(crate) fn new(
        admission: Arc<Admission>,
        config: PullConfig,
        eventsub: Arc<EventSub>,
        scratch: PathBuf,
        heard: Option<Heard>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let sources = Arc::new(Sources::new(&config, scratch)?);
        Ok(Self { admission, sources, config, eventsub, heard, running: Arc::default(), tasks, shutdown })
    }

    /// Pulls what an earlier process left, or was asked to pull and had not begun.
    pub(crate) async fn recover(&self) -> Result<()> {
        let states = [StreamState::Created, StreamState::Live, StreamState::Interrupted];
        for stream in self.admission.store().streams_in(&states).await? {
            if stream.source == SourceKind::Url && self.admission.is_ours(&stream) {
                self.start(stream);
            }
        }
        Ok(())
    }

    /// Begins to pull, unless that is being done.
    pub(crate) fn start(&self, stream: Stream) {
        let stop = self.shutdown.child_token();
        match self.lock().entry(stream.id.clone()) {
            Entry::Occupied(_) => return,
            Entry::Vacant(place) => place.insert(stop.clone()),
        };
        let puller = Puller {
            admission: Arc::clone(&self.admission),
            sources: Arc::clone(&self.sources),
            config: self.config.clone(),
            eventsub: Arc::clone(&self.eventsub),
            heard: self.heard.clone(),
            stream,
            stop,
        };
        let running = Running(Arc::clone(&self.running), puller.stream.id.clone());
        self.tasks.spawn(async move {
            puller.run().await;
            drop(running);
        });
    }

    /// Stops pulling; what becomes of the stream is for others to say.
    pub(crate) fn stop(&self, id: &StreamId) {
        if let Some(stop) = self.lock().get(id) {
            stop.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<StreamId, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that is pulled, until its task is gone, even by a panic.
struct Running(Arc<Mutex<HashMap<StreamId, CancellationToken>>>, StreamId);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// The task of one stream.
struct Puller {
    admission: Arc<Admission>,
    sources: Arc<Sources>,
    config: PullConfig,
    eventsub: Arc<EventSub>,
    heard: Option<Heard>,
    stream: Stream,
    stop: CancellationToken,
}

impl Puller {
    async fn run(&self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.pull() => {}
        }
    }

    async fn pull(&self) {
        let id = &self.stream.id;
        let mut pause = Pause::new(self.config.pause.0, self.config.max_pause.0);
        let mut channel = self.stream.source_url.as_deref().and_then(|url| self.eventsub.watch(url));
        let is_channel = self.stream.source_url.as_deref().and_then(eventsub::channel).is_some();
        let (mut place, mut last) = (source::Place::default(), None);
        if let Some(channel) = &mut channel {
            channel.settle(FIRST_ANSWER).await;
        }
        // Since when nothing comes.
        let mut since = Instant::now();
        while self.is_wanted().await {
            if let Some(channel) = &mut channel {
                channel.begin();
                if let Some(reason) = channel.away_lately() {
                    self.explain(&reason).await;
                    self.rest(channel, pause.next()).await;
                    pause.reset();
                    since = Instant::now();
                    continue;
                }
            }
            place.only_live = is_channel && !channel.as_ref().is_some_and(Watching::is_live);
            let mut outlet = Outlet::new(&self.admission, &self.stream, &self.config);
            let (progress, tried) = (outlet.progress().clone(), Instant::now());
            let ended = tokio::select! {
                ended = self.sources.run(&self.stream, &mut outlet, &mut place) => ended,
                () = progress.silent_for(self.config.patience.0) => {
                    Err(Trouble::Passing("the server sends, but no media (pull.patience)".to_owned()))
                }
            };
            // What waited for its turn was not tried meanwhile.
            since += std::mem::take(&mut place.waited);
            let given = place.has_begun(&outlet);
            // What was read need not have become a feed: it may have been refused.
            let begun = self.has_session().await;
            if begun && outlet.has_given() {
                pause.reset();
                since = Instant::now();
            }
            match ended {
                Ok(_) if !given => {
                    let reason = last.take().unwrap_or_else(|| "there is no media in it".to_owned());
                    tracing::warn!(stream_id = %id, reason, "a feed cannot be pulled");
                    return self.end(Ending::Failed(reason)).await;
                }
                Ok(reason) => {
                    tracing::info!(stream_id = %id, reason, "a pulled feed is over");
                    return self.end_with(&mut outlet, Ending::Over(reason)).await;
                }
                // What is wrong with a recording stays wrong; a broadcast that had begun is given the time to recover.
                Err(Trouble::Final(reason)) if !begun || outlet.gives_recording() => {
                    tracing::warn!(stream_id = %id, reason, "a feed cannot be pulled");
                    return self.end_with(&mut outlet, Ending::Failed(reason)).await;
                }
                Err(trouble) => {
                    let lasting = matches!(trouble, Trouble::Final(_));
                    let (Trouble::Passing(reason) | Trouble::Final(reason)) = trouble;
                    metrics::counter!("crest_pull_failures_total").increment(1);
                    outlet.close(&reason).await;
                    let away = channel.as_ref().and_then(Watching::is_away);
                    if away.is_some() {
                        // A channel may go live in a week; what has failed is not the source.
                        since = Instant::now();
                    }
                    let wait = pause.next();
                    // What a source without media fails with is what was wrong with it, not that it was waited for.
                    last = away.is_none().then(|| reason.clone());
                    let reason = away.unwrap_or(reason);
                    tracing::warn!(stream_id = %id, reason, ?wait, "a feed cannot be pulled at the moment");
                    self.explain(&reason).await;
                    let left = self.config.patience.0.saturating_sub(since.elapsed());
                    // A try that gave nothing takes about as long the next time.
                    let took = if outlet.has_given() { Duration::ZERO } else { tried.elapsed() };
                    let next = wait + took * 2;
                    // One that had begun is ended by its own task, which waits for it from its last media on, but as
                    // if it were only away.
                    if (!begun && left.is_zero()) || (begun && lasting && left <= next) {
                        tokio::time::sleep(left.saturating_sub(BEFORE)).await;
                        let patience = self.config.patience.0.as_secs_f64();
                        let reason = format!("{reason}; tried for {patience} s (pull.patience)");
                        return self.end(Ending::Failed(reason)).await;
                    }
                    let Some(channel) = &mut channel else {
                        tokio::time::sleep(wait).await;
                        continue;
                    };
                    if self.rest(channel, wait).await {
                        // It went live: from now on it is a source like any other.
                        pause.reset();
                        since = Instant::now();
                    }
                }
            }
        }
    }

    /// Waits for the channel, and says that it does as soon as that is known; `true` when it went live.
    async fn rest(&self, channel: &mut Watching, pause: Duration) -> bool {
        let away = channel.away();
        let rest = channel.rest(pause);
        tokio::pin!(rest);
        tokio::select! {
            woken = &mut rest => woken,
            reason = away => {
                self.explain(&reason).await;
                rest.await
            }
        }
    }

    /// Whether the stream goes on, and is this process's to pull. Where the store does not answer, it does.
    async fn is_wanted(&self) -> bool {
        let Ok(stream) = self.admission.store().stream(&self.stream.organization_id, &self.stream.id).await else {
            return true;
        };
        let Some(stream) = stream.filter(|stream| !stream.state.is_over()) else { return false };
        let gone =
            |heard: &Heard| stream.instance.as_ref().is_none_or(|id| heard.absent(id, std::time::Instant::now()));
        self.admission.is_ours(&stream) || self.heard.as_ref().is_some_and(gone)
    }

    /// Whether the stream has begun. Where the store does not answer, it has: then nothing ends it here.
    async fn has_session(&self) -> bool {
        let stream = self.admission.store().stream(&self.stream.organization_id, &self.stream.id).await;
        stream.ok().flatten().is_none_or(|stream| stream.session.is_some())
    }

    async fn explain(&self, reason: &str) {
        if let Err(error) = self.admission.store().explain_stream(&self.stream.id, reason, now()).await {
            tracing::warn!(stream_id = %self.stream.id, %error, "the stream does not say why it waits");
        }
    }

    /// Ends the stream after the last of its media, without an interruption before.
    async fn end_with(&self, outlet: &mut Outlet<'_>, ending: Ending) {
        if !outlet.end(&ending).await {
            self.end(ending).await;
        }
    }

    async fn end(&self, ending: Ending) {
        while let Err(error) = self.admission.end(&self.stream, ending.clone()).await {
            tracing::error!(stream_id = %self.stream.id, %error, "a pulled stream could not be ended");
            if !error.retryable {
                return;
            }
            tokio::time::sleep(self.config.max_pause.0).await;
        }
    }
}
