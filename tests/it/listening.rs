//! `crest listen` as a child, and a receiver on this machine that no API knows.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::harness::{crest_command, signal, wait_for};
use crate::receiver::Received;

type Lines = Arc<Mutex<Vec<String>>>;

/// A running `crest listen`. Dropping it kills it.
pub struct Listening {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Listening {
    /// Starts it with its configuration below `home`.
    pub fn start(home: &Path, key: &str, args: &[&str]) -> Result<Self> {
        let mut child = crest_command()
            .arg("listen")
            .args(args)
            .env("CREST_API_KEY", key)
            .env("XDG_CONFIG_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("crest listen cannot be started")?;
        let out = lines(child.stdout.take().context("no standard output")?);
        let err = lines(child.stderr.take().context("no standard error")?);
        Ok(Self { child, out, err })
    }

    /// Starts it, and waits until it hears what happens from now on.
    pub async fn connected(home: &Path, key: &str, args: &[&str]) -> Result<Self> {
        let listening = Self::start(home, key, args)?;
        listening.wait_for_note("listening to the events of").await?;
        Ok(listening)
    }

    /// The events so far; for `--format json`.
    pub fn events(&self) -> Vec<Value> {
        lock(&self.out).iter().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    }

    /// The lines of standard output so far.
    pub fn printed(&self) -> Vec<String> {
        lock(&self.out).clone()
    }

    /// What it said of itself so far.
    pub fn notes(&self) -> String {
        lock(&self.err).join("\n")
    }

    /// How often it has reached the server so far.
    pub fn connections(&self) -> usize {
        lock(&self.err).iter().filter(|line| line.starts_with("listening to the events of")).count()
    }

    /// Waits until it has said this of itself; answers the line.
    pub async fn wait_for_note(&self, text: &str) -> Result<String> {
        let said = || async { Ok(lock(&self.err).iter().find(|line| line.contains(text)).cloned()) };
        let said = wait_for(&format!("a note: {text}"), LIMIT, said).await;
        said.with_context(|| format!("it said: {}", self.notes()))
    }

    /// Waits for so many events.
    pub async fn wait_for(&self, count: usize) -> Result<Vec<Value>> {
        let enough = || async { Ok((lock(&self.out).len() >= count).then_some(())) };
        let came = wait_for(&format!("{count} events"), LIMIT, enough).await;
        came.with_context(|| format!("{} came; it said: {}", self.events().len(), self.notes()))?;
        Ok(self.events())
    }

    /// Waits for the `count`-th event of a type.
    pub async fn wait_for_type(&self, kind: &str, count: usize) -> Result<Value> {
        let nth = || async { Ok(self.events().into_iter().filter(|e| e["type"] == kind).nth(count - 1)) };
        let came = wait_for(&format!("{kind} number {count}"), LIMIT, nth).await;
        came.with_context(|| format!("what came is {:?}; it said: {}", kinds(&self.events()), self.notes()))
    }

    /// Ctrl-C, and how it ends.
    pub async fn interrupt(&mut self) -> Result<ExitStatus> {
        signal("INT", self.child.id().context("it has ended already")?).await?;
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        Ok(ended.with_context(|| format!("crest listen goes on: {}", self.notes()))??)
    }
}

/// Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The types of events.
pub fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

fn lines(source: impl AsyncRead + Unpin + Send + 'static) -> Lines {
    let kept = Lines::default();
    let into = Arc::clone(&kept);
    tokio::spawn(async move {
        let mut lines = BufReader::new(source).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            lock(&into).push(line);
        }
    });
    kept
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program on this machine that takes webhooks. Dropping it stops it.
pub struct Local {
    taken: Arc<Mutex<Vec<Received>>>,
    refused: Arc<Mutex<Vec<Received>>>,
    refusals: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    /// Where it takes them.
    pub url: String,
}

impl Local {
    /// Answers 500 to the first `refusals` requests.
    pub async fn start(refusals: usize) -> Result<Self> {
        let (taken, refused) = (Arc::<Mutex<Vec<Received>>>::default(), Arc::<Mutex<Vec<Received>>>::default());
        let left = Arc::new(AtomicUsize::new(refusals));
        let kept = (taken.clone(), refused.clone(), left.clone());
        let accept = move |headers: HeaderMap, body: Bytes| async move {
            let (taken, refused, left) = kept;
            let request = Received { headers, body };
            let refuse = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
            lock(if refuse { &refused } else { &taken }).push(request);
            if refuse { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/events", listener.local_addr()?);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, Router::new().route("/events", post(accept))).await;
        });
        Ok(Self { taken, refused, refusals: left, serving, url })
    }

    /// What it took, in order.
    pub fn taken(&self) -> Vec<Received> {
        lock(&self.taken).clone()
    }

    /// What it answered 500, in order.
    pub fn refused(&self) -> Vec<Received> {
        lock(&self.refused).clone()
    }

    /// Answers 500 to so many more requests.
    pub fn refuse(&self, more: usize) {
        self.refusals.store(more, Ordering::SeqCst);
    }

    /// Waits until it has taken so many.
    pub async fn wait_for(&self, count: usize) -> Result<Vec<Received>> {
        let enough = || async { Ok(Some(self.taken()).filter(|taken| taken.len() >= count)) };
        wait_for(&format!("{count} forwarded events"), LIMIT, enough).await
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Holds that these are an organization's events from the first on, each once.
pub fn without_gap(events: &[Value]) -> Result<()> {
    let sequences: Vec<_> = events.iter().map(|event| event["data"]["sequence"].as_u64()).collect();
    let expected: Vec<_> = (1..=events.len() as u64).map(Some).collect();
    ensure!(sequences == expected, "sequences are {sequences:?}");
    Ok(())
}
