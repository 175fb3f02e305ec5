//! A publisher of Enhanced RTMP: ffmpeg here speaks only what RTMP has always been.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Message types.
pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;
const COMMAND: u8 = 20;
const SET_CHUNK_SIZE: u8 = 1;
const CHUNK: usize = 4096;

/// A connection that publishes.
pub struct Client {
    socket: TcpStream,
    chunk: usize,
    heard: Vec<u8>,
}

impl Client {
    /// Everything up to the first tag, as a publisher of version 2 does it. `url` is that of the application with the
    /// key behind it.
    pub async fn publish(url: &str) -> Self {
        let (address, key) = url.trim_start_matches("rtmp://").split_once("/live/").unwrap();
        let socket = TcpStream::connect(address).await.unwrap();
        let mut client = Self { socket, chunk: 128, heard: Vec::new() };
        let mut hello = vec![3];
        hello.resize(1 + 1536, 7);
        client.socket.write_all(&hello).await.unwrap();
        let mut answer = vec![0; 1 + 1536 + 1536];
        client.socket.read_exact(&mut answer).await.unwrap();
        client.socket.write_all(&answer[1..1537]).await.unwrap();
        client.message(2, SET_CHUNK_SIZE, 0, 0, &(CHUNK as u32).to_be_bytes()).await;
        client.chunk = CHUNK;
        let list = ["av01", "vp09", "vp08", "hvc1", "Opus", ".mp3", "mp4a"].map(text).concat();
        let list = [&[0x0a, 0, 0, 0, 7][..], &list].concat();
        let properties = [("app", text("live")), ("fourCcList", list), ("capsEx", number(14.0))];
        let object: Vec<u8> = properties.iter().flat_map(|(name, value)| [&text(name)[1..], value].concat()).collect();
        let connect = [text("connect"), number(1.0), vec![3], object, vec![0, 0, 9]].concat();
        client.message(3, COMMAND, 0, 0, &connect).await;
        client.until("NetConnection.Connect.Success").await;
        let create = [text("createStream"), number(2.0), vec![5]].concat();
        client.message(3, COMMAND, 0, 0, &create).await;
        let publish = [text("publish"), number(3.0), vec![5], text(key), text("live")].concat();
        client.message(3, COMMAND, 1, 0, &publish).await;
        client.until("NetStream.Publish.Start").await;
        client
    }

    /// Whether the server has said this so far.
    pub fn heard(&self, words: &str) -> bool {
        self.heard.windows(words.len()).any(|window| window == words.as_bytes())
    }

    /// Sends a tag body at a time in milliseconds.
    pub async fn tag(&mut self, kind: u8, at: i64, parts: &[&[u8]]) {
        self.message(if kind == AUDIO { 4 } else { 6 }, kind, 1, at as u32, &parts.concat()).await;
    }

    /// Sends the same tag body again and again until the server hangs up, and returns how often it could.
    pub async fn flood(mut self, kind: u8, body: &[u8]) -> usize {
        let mut sent = 0;
        while self.try_message(7, kind, 1, 0, body).await.is_ok() {
            sent += 1;
        }
        sent
    }

    async fn message(&mut self, stream: u8, kind: u8, message_stream: u32, at: u32, payload: &[u8]) {
        self.try_message(stream, kind, message_stream, at, payload).await.unwrap();
    }

    async fn try_message(
        &mut self,
        stream: u8,
        kind: u8,
        message_stream: u32,
        at: u32,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let mut out = vec![stream];
        out.extend(&at.to_be_bytes()[1..]);
        out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
        out.push(kind);
        out.extend(message_stream.to_le_bytes());
        for (index, piece) in payload.chunks(self.chunk).enumerate() {
            if index > 0 {
                out.push(0xc0 | stream);
            }
            out.extend(piece);
        }
        self.socket.write_all(&out).await
    }

    async fn until(&mut self, words: &str) {
        while !self.heard(words) {
            let mut piece = [0; 4096];
            let count = self.socket.read(&mut piece).await.unwrap();
            assert!(count > 0, "the server has hung up before {words}");
            self.heard.extend(&piece[..count]);
        }
    }
}

fn text(value: &str) -> Vec<u8> {
    [&[2][..], &(value.len() as u16).to_be_bytes(), value.as_bytes()].concat()
}

fn number(value: f64) -> Vec<u8> {
    [&[0][..], &value.to_be_bytes()].concat()
}
