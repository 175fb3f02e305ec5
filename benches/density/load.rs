//! The publishers, in a process of their own so that their processor time stays apart: one thread, one file in
//! memory, each connection at its own pace.

use anyhow::{Context, Result, bail, ensure};
use std::io::IoSlice;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::flv::{self, Feed, Message};
use crate::rtmp;

/// Between the starts of two publishers: no two begin a group of pictures together.
const STAGGER: Duration = Duration::from_millis(37);
/// How long all of them may take to be let in, beside the stagger.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running load. Dropping it kills it.
pub struct Load {
    child: Child,
    pub pid: u32,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Load {
    /// Publishes `file` to `server` (`HOST:PORT`), once for each key, and returns when all are let in.
    pub async fn start(file: &Path, server: &str, keys: &[String]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("publish").arg(file).arg(server).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("the load program cannot be started")?;
        let pid = child.id().context("the load program has ended already")?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        stdin.write_all(format!("{}\n\n", keys.join("\n")).as_bytes()).await?;
        let mut load = Self { child, pid, stdin, stdout };
        let patience = PATIENCE + STAGGER * u32::try_from(keys.len())?;
        let said = tokio::time::timeout(patience, load.stdout.next_line()).await;
        match said.context("not every publisher was let in")?? {
            Some(line) if line == "live" => Ok(load),
            _ => bail!("the load program ended"),
        }
    }

    /// Ends all publishers. Returns the most that a message left later than it was due.
    pub async fn stop(mut self) -> Result<Duration> {
        drop(self.stdin);
        let last = self.stdout.next_line().await?.context("the load program ended early: a publisher was cut off")?;
        ensure!(self.child.wait().await?.success(), "the load program failed");
        Ok(Duration::from_secs_f64(last.parse()?))
    }
}

/// The load program. Keys come on standard input, a line each, an empty line after the last; `live` is said when
/// all are let in. When standard input ends so do the publishers, and the worst lateness in seconds is said.
pub fn run(file: &Path, server: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let feed = Rc::new(flv::read(file)?);
    runtime.block_on(LocalSet::new().run_until(publish_all(feed, server)))
}

async fn publish_all(feed: Rc<Feed>, server: &str) -> Result<()> {
    let mut lines = lines_of_stdin();
    let mut publishers = JoinSet::new();
    let latest = Rc::new(std::cell::Cell::new(Duration::ZERO));
    while let Some(key) = lines.recv().await.filter(|key| !key.is_empty()) {
        let socket = rtmp::publish(server, &key).await?;
        let (feed, latest) = (Rc::clone(&feed), Rc::clone(&latest));
        publishers.spawn_local(async move { publish(socket, &feed, &latest).await });
        tokio::time::sleep(STAGGER).await;
    }
    println!("live");
    tokio::select! {
        // Nothing more is said: this is the end of standard input.
        _ = lines.recv() => {}
        Some(ended) = publishers.join_next() => ended??,
    }
    println!("{}", latest.get().as_secs_f64());
    Ok(())
}

/// Standard input, line by line.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let read = std::io::stdin().lines().map_while(Result::ok);
        for line in read {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Publishes without end.
async fn publish(socket: TcpStream, feed: &Feed, latest: &std::cell::Cell<Duration>) -> Result<()> {
    let (mut answers, mut socket) = socket.into_split();
    // Acknowledgements: read so that the server can go on writing them.
    let deaf = tokio::task::spawn_local(async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await });
    for config in &feed.configs {
        send(&mut socket, config, 0).await?;
    }
    let begun = Instant::now();
    for round in 0u32.. {
        for message in &feed.media {
            let time = round * feed.round + message.time;
            let due = begun + Duration::from_millis(time.into());
            tokio::time::sleep_until(due).await;
            send(&mut socket, message, time).await?;
            latest.set(latest.get().max(due.elapsed()));
        }
        ensure!(!deaf.is_finished(), "the server closed a connection");
    }
    Ok(())
}

async fn send(socket: &mut (impl AsyncWriteExt + Unpin), message: &Message, time: u32) -> Result<()> {
    let header = rtmp::header(message.kind, time, message.length);
    let mut parts = [IoSlice::new(&header), IoSlice::new(&message.chunks)];
    let mut parts = &mut parts[..];
    while !parts.is_empty() {
        let written = socket.write_vectored(parts).await?;
        ensure!(written > 0, "the server closed a connection");
        IoSlice::advance_slices(&mut parts, written);
    }
    Ok(())
}
