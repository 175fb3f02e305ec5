//! What every test of faults plays: a stream that is fed whenever crest takes feeds, chat and marks, a
//! receiver, and at the end the books. It plays where one process runs and where several do.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::broadcast;
use crate::harness::wait_for;
use crate::ledger::logs::Logs;
use crate::ledger::undisturbed::{self, Undisturbed};
use crate::ledger::{self, Promised};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::{Answer, Api};

/// Until something happens that needs a start, a session and a clip, on a machine that does a lot else.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Until a mark is followed by another.
const AGAIN: Duration = Duration::from_secs(5);
/// Clips without what comes after: media for that need not be waited for.
pub const SETTINGS: [(&str, &str); 4] = [
    ("CREST_CLIPS__AFTER", "0s"),
    ("CREST_WEBHOOKS__RETRY", "200ms,200ms,500ms,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"),
    ("CREST_INGEST__RECONNECT", "120s"),
    ("CREST_LOG__LEVEL", "info"),
];

/// Where crest runs, as one process or as several.
pub trait Place: Send + Sync + 'static {
    /// The API with the operator's key; it works whenever crest does.
    fn api(&self) -> Api;
    /// The address that events carry.
    fn base(&self) -> String;
    /// Where publishers connect to.
    fn rtmp(&self) -> String;
    /// Everything crest wrote to its logs.
    fn log(&self) -> String;
    /// Fragments that were stored since ingest was last started.
    fn fragments(&self) -> impl Future<Output = Result<f64>> + Send;
    /// Stops it in order, and reads the logs that it leaves.
    fn stop(&self) -> impl Future<Output = Result<Logs>> + Send;
}

/// A stream that is fed whenever crest runs, and a receiver.
pub struct Scene<P> {
    /// Where it plays.
    pub place: Arc<P>,
    /// Who is told.
    pub receiver: Receiver,
    /// The stream's id.
    pub stream: String,
    /// What crest owes.
    pub promised: Promised,
    feed: JoinHandle<()>,
    sent: u32,
    begun: Instant,
}

/// What was accepted of what somebody sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The chat.
    pub chat: bool,
    /// The mark.
    pub mark: bool,
}

impl<P: Place> Scene<P> {
    /// Crest runs and is healthy: what is created over the API is there. The publisher sends `seconds` of
    /// the broadcast again and again; the first 28 are quiet, so that what is found is what is marked.
    pub async fn new(place: Arc<P>, seconds: &'static str) -> Result<Self> {
        let api = place.api();
        let receiver = Receiver::register(&api).await?;
        let made = api.post("/v1/streams", json!({ "name": "disturbed", "source": { "kind": "rtmp" } })).await?;
        let stream = made["id"].as_str().context("no id")?.to_owned();
        let url = format!("{}/{}", place.rtmp(), made["ingest"]["stream_key"].as_str().context("no key")?);
        let file = broadcast::file().await?;
        let feed = tokio::spawn(async move {
            loop {
                if let Ok(publisher) = Publisher::ffmpeg(file, &["-t", seconds], &url) {
                    let _ = publisher.end(LIMIT).await;
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        Ok(Self { place, receiver, stream, feed, promised: Promised::default(), sent: 0, begun: Instant::now() })
    }

    /// Says what happens, and when: shown where the test fails.
    pub fn tell(&self, what: &str) {
        println!("{} {:7.3} s: {what}", self.stream, self.begun.elapsed().as_secs_f64());
    }

    /// A path of the stream.
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/streams/{}{rest}", self.stream)
    }

    /// Waits until the stream is fed.
    pub async fn live(&self) -> Result<()> {
        let live = || async { Ok((self.place.api().get(&self.path("")).await?["state"] == "live").then_some(())) };
        wait_for("the stream to be live", LIMIT, live).await.with_context(|| self.place.log())
    }

    /// Chat and a mark, both sent again under the same ids as long as there is no answer. What crest
    /// refuses, because its session is over by now or a service is away, it owes nobody.
    pub async fn watch(&mut self) -> Result<Accepted> {
        self.sent += 1;
        let api = self.place.api();
        let at = jiff::Timestamp::now().to_string();
        let ids: Vec<String> = (0..5).map(|n| format!("{}-{n}", self.sent)).collect();
        let (chat, path) = (ledger::chat(&ids, &at), self.path("/chat"));
        let answered = || async { Ok(answer(api.send(Method::POST, &path, Some(chat.clone())).await?)) };
        let chat = wait_for("an answer to chat", LIMIT, answered).await?.status.is_success();
        if chat {
            self.promised.chat.extend(ids);
        }
        let path = self.path("/markers");
        let answered = || async { Ok(answer(api.send(Method::POST, &path, Some(json!({ "at": at }))).await?)) };
        let answer = wait_for("an answer to a mark", LIMIT, answered).await?;
        let mark = answer.status.is_success();
        if mark {
            let told = answer.json();
            self.promised.marks.push((told["session"].as_u64().unwrap_or(0), told["t"].as_f64().unwrap_or(-1.0)));
        }
        Ok(Accepted { chat, mark })
    }

    /// Chat and a mark, until both are accepted.
    pub async fn watched(&mut self) -> Result<()> {
        let begun = tokio::time::Instant::now();
        loop {
            let accepted = self.watch().await?;
            if accepted.chat && accepted.mark {
                return Ok(());
            }
            ensure!(begun.elapsed() < LIMIT, "chat and marks are refused: {accepted:?}: {}", self.place.log());
            // Two marks of one instant are one moment: the next is of another.
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The stream's highlights, those that were deleted among them.
    pub async fn highlights(&self) -> Result<Vec<Value>> {
        ledger::highlights(&self.place.api(), &self.stream).await
    }

    /// A decided moment more than before.
    pub async fn decided(&self, more_than: usize) -> Result<()> {
        let count = || async { Ok((self.highlights().await?.len() > more_than).then_some(())) };
        wait_for("a highlight", LIMIT, count).await.with_context(|| self.place.log())
    }

    /// A mark, and a moment more: all of crest is at work. A mark within a moment that is there is no new one;
    /// then another follows.
    pub async fn works(&mut self) -> Result<()> {
        let told = |scene: &Self| scene.receiver.kinds().iter().filter(|kind| *kind == "highlight.detected").count();
        let (before, end) = (told(self), Instant::now() + LIMIT);
        while told(self) == before {
            ensure!(Instant::now() < end, "no moment is told any more: {}", self.place.log());
            self.watched().await?;
            let more = || async { Ok((told(self) > before).then_some(())) };
            let _ = wait_for("a moment to be told", AGAIN, more).await;
        }
        self.tell("a moment more");
        Ok(())
    }

    /// The end: the stream is stopped, everything owed is waited for, and the books are compared.
    pub async fn close(self) -> Result<Ended> {
        self.close_after(std::future::ready(Ok(()))).await
    }

    /// The end, with something that must have happened by then.
    pub async fn close_after(mut self, happened: impl Future<Output = Result<()>>) -> Result<Ended> {
        // The last mark has media before it: there is a clip to be made.
        let stored = || async { Ok((self.place.fragments().await? >= 2.0).then_some(())) };
        wait_for("stored media", LIMIT, stored).await.with_context(|| self.place.log())?;
        self.watched().await?;
        self.decided(0).await?;
        self.stop().await?;
        self.settle(happened).await
    }

    /// Ends the feed and the stream.
    pub async fn stop(&self) -> Result<()> {
        self.feed.abort();
        let stop = || async {
            let answer = self.place.api().send(Method::POST, &self.path("/stop"), Some(json!({}))).await?;
            ensure!(answer.status.is_success(), "stop: {} {}", answer.status, answer.json());
            Ok(Some(()))
        };
        wait_for("the stream to stop", LIMIT, stop).await.with_context(|| self.place.log())
    }

    /// Once the stream is stopped: everything owed is waited for, and the books are compared.
    pub async fn settle(self, happened: impl Future<Output = Result<()>>) -> Result<Ended> {
        let (place, api) = (Arc::clone(&self.place), self.place.api());
        self.receiver.wait_for("stream.ended", 1, LIMIT).await.with_context(|| place.log())?;
        self.tell("the stream has ended");
        self.paid().await?;
        happened.await?;
        let highlights = self.paid().await?;
        self.tell("everything owed is there");
        ensure!(ledger::clips_are_intact(&api, &highlights).await? > 0, "no clip was made: {highlights:#?}");
        let highlights = self.paid().await?;
        let logs = place.stop().await?;
        self.tell("crest has stopped");
        let undisturbed = undisturbed::compare(&logs, &self.promised, &highlights, &self.receiver, &place.base())
            .with_context(|| place.log())?;
        Ok(Ended { highlights, logs, undisturbed })
    }

    /// Waits for everything that is owed.
    async fn paid(&self) -> Result<Vec<Value>> {
        let paid = || async {
            let highlights = self.highlights().await?;
            match ledger::owed(&self.promised, &highlights, &self.receiver.received())? {
                None => Ok(Some(highlights)),
                Some(owed) => anyhow::bail!(owed),
            }
        };
        wait_for("everything owed", LIMIT, paid).await.with_context(|| self.place.log())
    }
}

impl<P> Drop for Scene<P> {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

/// What is left when the books were found in order.
pub struct Ended {
    /// Every highlight.
    pub highlights: Vec<Value>,
    /// The logs of the bus.
    pub logs: Logs,
    /// What an undisturbed run makes of them.
    pub undisturbed: Undisturbed,
}

impl Ended {
    /// Where ingest was never killed and its publisher never cut off: nothing of the media is missing.
    pub fn nothing_is_missing(&self) -> Result<()> {
        self.logs.segments_are_complete()?;
        ledger::clips_are_whole(&self.highlights, &self.undisturbed.ends)
    }
}

/// A process that starts has no answer yet.
fn answer(answer: Answer) -> Option<Answer> {
    (answer.json()["code"] != "not_ready").then_some(answer)
}
