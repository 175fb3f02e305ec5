//! A receiver with moods: takes webhooks, refuses them, hangs, or breaks off.

use anyhow::{Context, Result};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::server::Api;

/// How it answers at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// 204.
    Taking,
    /// 500.
    Refusing,
    /// Accepts the connection, reads, and never answers.
    Hanging,
    /// Closes in the middle: of the request, or of its own answer.
    BreakingOff,
}

#[derive(Debug, Default)]
struct Inside {
    mood: Option<Mood>,
    /// What was answered 204, in order: webhook-id and body.
    taken: Vec<(String, Vec<u8>)>,
    /// What was read whole, answered or not.
    seen: Vec<(String, Vec<u8>)>,
    requests: usize,
}

/// A webhook endpoint of one organization. Dropping it stops it.
pub struct Moody {
    inside: Arc<Mutex<Inside>>,
    serving: JoinHandle<()>,
}

impl Moody {
    /// Listens in this mood, and tells crest so.
    pub async fn register(api: &Api, mood: Mood) -> Result<Self> {
        let inside = Arc::new(Mutex::new(Inside { mood: Some(mood), ..Inside::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let shared = Arc::clone(&inside);
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { serve(socket, &shared).await.ok() });
            }
        });
        api.post("/v1/webhooks", json!({ "url": url })).await?;
        Ok(Self { inside, serving })
    }

    /// Changes its mood; requests that hang go on hanging.
    pub fn now(&self, mood: Mood) {
        lock(&self.inside).mood = Some(mood);
    }

    /// What was answered 204, in order: webhook-id and body.
    pub fn taken(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.inside).taken.clone()
    }

    /// What was read whole, answered or not.
    pub fn seen(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.inside).seen.clone()
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        lock(&self.inside).requests
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(inside: &Mutex<Inside>) -> std::sync::MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests of one connection, one after the other.
async fn serve(mut socket: TcpStream, inside: &Mutex<Inside>) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(buffer.get(..head).unwrap_or_default()).to_lowercase();
        let header = |name: &str| text.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        let length: usize = header("content-length").context("no content-length")?.parse()?;
        let id = header("webhook-id").context("no webhook-id")?;
        let (mood, turn) = {
            let mut inside = lock(inside);
            inside.requests += 1;
            (inside.mood.context("no mood")?, inside.requests)
        };
        if mood == Mood::BreakingOff && turn.is_multiple_of(3) {
            return Ok(());
        }
        while buffer.len() < head + length {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let rest = buffer.split_off(head + length);
        let body = buffer.split_off(head);
        buffer = rest;
        lock(inside).seen.push((id.clone(), body.clone()));
        match mood {
            Mood::Taking => {
                lock(inside).taken.push((id, body));
                socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            }
            Mood::Refusing => {
                socket.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await?;
            }
            Mood::Hanging => std::future::pending().await,
            Mood::BreakingOff if turn.is_multiple_of(2) => {
                return socket.write_all(b"HTTP/1.1 20").await.context("half an answer");
            }
            Mood::BreakingOff => return Ok(()),
        }
    }
}
