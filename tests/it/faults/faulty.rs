//! An object storage with moods: a way to the real one that passes requests on, answers them with 503, never
//! answers, or breaks off in the middle.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// They are passed on.
    Well,
    /// They are read and answered 503, as S3 does when it is asked too much.
    Refusing,
    /// They are read and never answered.
    Hanging,
    /// They are passed on, and broken off after some bytes of what was stored or read.
    BreakingOff,
}

/// Bytes of a connection that breaks off.
const SOME: u64 = 20_000;
const REFUSAL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce \
                       your request rate.</Message></Error>";

/// Stands on a port of this machine in front of a storage.
pub struct Faulty {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    mood: watch::Sender<Mood>,
    /// Requests that did not get through.
    spoiled: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Faulty {
    /// In front of this endpoint; well.
    pub async fn before(endpoint: &str) -> Result<Self> {
        let target = endpoint.strip_prefix("http://").context("no http:// endpoint")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let (mood, seen) = watch::channel(Mood::Well);
        let spoiled = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&spoiled);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target.clone(), seen.clone(), Arc::clone(&counted)));
            }
        });
        Ok(Self { endpoint, mood, spoiled, serving })
    }

    /// Changes its mood. Connections under way end: they were made in another one.
    pub fn now(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Requests that did not get through so far.
    pub fn spoiled(&self) -> usize {
        self.spoiled.load(Ordering::Relaxed)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(client: TcpStream, target: String, mut mood: watch::Receiver<Mood>, spoiled: Arc<AtomicUsize>) {
    let now = *mood.borrow_and_update();
    let served = async {
        match now {
            Mood::Well => pass(client, &target, u64::MAX).await,
            Mood::BreakingOff => {
                spoiled.fetch_add(1, Ordering::Relaxed);
                pass(client, &target, SOME).await
            }
            Mood::Refusing | Mood::Hanging => spoil(client, now, &spoiled).await,
        }
    };
    tokio::select! {
        _ = served => {}
        _ = mood.changed() => {}
    }
}

/// Passes bytes on in both directions, at most so many of them.
async fn pass(client: TcpStream, target: &str, most: u64) -> Result<()> {
    let server = TcpStream::connect(target).await?;
    let (from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (from_client.take(most), from_server.take(most));
    tokio::select! {
        sent = tokio::io::copy(&mut up, &mut to_server) => sent?,
        read = tokio::io::copy(&mut down, &mut to_client) => read?,
    };
    Ok(())
}

/// Reads requests and refuses them, or leaves them without an answer.
async fn spoil(mut client: TcpStream, mood: Mood, spoiled: &AtomicUsize) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if client.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        while buffer.len() < head + length.unwrap_or(0) {
            if client.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        buffer = buffer.split_off(head + length.unwrap_or(0));
        spoiled.fetch_add(1, Ordering::Relaxed);
        if mood == Mood::Hanging {
            std::future::pending::<()>().await;
        }
        let body = if text.starts_with("head ") { "" } else { REFUSAL };
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(answer.as_bytes()).await?;
    }
}
