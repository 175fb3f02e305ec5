//! As much of RTMP as a publisher needs that knows its server: the handshake, three commands, chunks.

use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;
const SET_CHUNK_SIZE: u8 = 1;
const COMMAND: u8 = 20;

/// Bytes of a chunk: what OBS Studio sends.
const CHUNK: usize = 4096;
/// What a server answers before it takes media.
const STARTED: &[u8] = b"NetStream.Publish.Start";
/// How long the server may take to let a publisher in.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects as a publisher and returns when the server takes its media. The application is `live`.
pub async fn publish(server: &str, key: &str) -> Result<TcpStream> {
    let joined = tokio::time::timeout(PATIENCE, join(server, key)).await;
    joined.with_context(|| format!("{server} does not take the stream"))?
}

async fn join(server: &str, key: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(server).await.with_context(|| format!("cannot connect to {server}"))?;
    socket.set_nodelay(true)?;
    let mut hello = vec![0; 1 + 1536];
    hello[0] = 3;
    socket.write_all(&hello).await?;
    let mut answer = vec![0; 1 + 1536 + 1536];
    socket.read_exact(&mut answer).await.context("no handshake")?;
    socket.write_all(&answer[1..=1536]).await?;

    let mut out = message(2, SET_CHUNK_SIZE, 0, &u32::try_from(CHUNK)?.to_be_bytes());
    let mut connect = command("connect", 1.0);
    connect.push(3);
    for (name, value) in [("app", "live"), ("tcUrl", &format!("rtmp://{server}/live"))] {
        connect.extend(u16::try_from(name.len())?.to_be_bytes());
        connect.extend(name.as_bytes());
        text(&mut connect, value);
    }
    connect.extend([0, 0, 9]);
    out.extend(message(3, COMMAND, 0, &connect));
    let mut create = command("createStream", 2.0);
    create.push(5);
    out.extend(message(3, COMMAND, 0, &create));
    let mut publish = command("publish", 3.0);
    publish.push(5);
    text(&mut publish, key);
    text(&mut publish, "live");
    // The first stream of a connection is 1.
    out.extend(message(3, COMMAND, 1, &publish));
    socket.write_all(&out).await?;

    let mut said = Vec::new();
    while !said.windows(STARTED.len()).any(|bytes| bytes == STARTED) {
        ensure!(socket.read_buf(&mut said).await? > 0, "the server closed the connection; its log says why");
    }
    Ok(socket)
}

fn command(name: &str, number: f64) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, name);
    out.push(0);
    out.extend(number.to_be_bytes());
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(2);
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn message(chunk_stream: u8, kind: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![chunk_stream];
    out.extend([0; 3]);
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.push(kind);
    out.extend(stream.to_le_bytes());
    out.extend(body);
    out
}

/// Each kind of media has a chunk stream of its own.
const fn chunk_stream(kind: u8) -> u8 {
    if kind == AUDIO { 4 } else { 6 }
}

/// The header before a message's first chunk. `time` in milliseconds, below 4.6 hours.
pub fn header(kind: u8, time: u32, length: usize) -> [u8; 12] {
    let ([_, t2, t1, t0], [_, l2, l1, l0]) = (time.to_be_bytes(), (length as u32).to_be_bytes());
    [chunk_stream(kind), t2, t1, t0, l2, l1, l0, kind, 1, 0, 0, 0]
}

/// A message's body with the headers between its chunks.
pub fn chunks(kind: u8, body: &[u8]) -> Vec<u8> {
    let continued = [0xc0 | chunk_stream(kind)];
    body.chunks(CHUNK).collect::<Vec<_>>().join(&continued[..])
}
