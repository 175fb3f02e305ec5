//! A server that answers what YouTube documents of its Data API v3: `videos`, `liveChat/messages` and, where a test
//! wants it, `liveChat/messages/stream`. It stands in for the real one, which no test reaches.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The key that it wants.
pub const KEY: &str = "the-key-of-the-tests";
/// Bytes of a stream that are written at once: pages come in many pieces.
const PIECE: usize = 7;

/// The server.
pub struct YoutubeServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    streamed: watch::Sender<Streamed>,
}

/// What is streamed.
#[derive(Clone, Default)]
struct Streamed {
    /// Whether there is such a method.
    there: bool,
    /// Every page so far: the token of each is its place, from 1.
    pages: Vec<Value>,
    /// Connections that were cut: those that were opened before.
    cuts: usize,
    /// Whether the next page is cut in its middle, and its connection with it.
    torn: bool,
    /// Whether a connection ends when everything is told.
    brief: bool,
}

#[derive(Default)]
struct State {
    /// What the next requests for messages are answered with; then empty pages follow.
    answers: VecDeque<(u16, Value)>,
    /// What the next requests for a stream are answered with, instead of one.
    instead: VecDeque<(u16, Value)>,
    /// Every request's path and query.
    requests: Vec<String>,
    pages: usize,
}

impl YoutubeServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, streamed) = (Arc::clone(&state), watch::Sender::new(Streamed::default()));
        let streams = streamed.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), streams.clone()));
            }
        });
        Self { address, state, streamed }
    }

    /// What `chat.youtube.base_url` is set to.
    pub fn url(&self) -> String {
        format!("http://{}/youtube/v3", self.address)
    }

    /// New messages, for the next request.
    pub fn messages(&self, items: &[Value]) {
        self.state.lock().unwrap().answers.push_back((200, json!({ "items": items })));
    }

    /// An error, for the next request.
    pub fn refuses(&self, status: u16, reason: &str) {
        self.state.lock().unwrap().answers.push_back((status, error(status, reason)));
    }

    /// From now on there is the method that streams.
    pub fn streams(&self) {
        self.streamed.send_modify(|streamed| streamed.there = true);
    }

    /// As `streams`, but each stream ends once everything is told.
    pub fn streams_briefly(&self) {
        self.streamed.send_modify(|streamed| (streamed.there, streamed.brief) = (true, true));
    }

    /// A page, on the stream.
    pub fn stream(&self, mut page: Value) {
        self.streamed.send_modify(|streamed| {
            page["nextPageToken"] = json!(format!("page-{}", streamed.pages.len() + 1));
            streamed.pages.push(page);
        });
    }

    /// Cuts the streams that are open.
    pub fn cut(&self) {
        self.streamed.send_modify(|streamed| streamed.cuts += 1);
    }

    /// Cuts the connection in the middle of the next page.
    pub fn tear(&self) {
        self.streamed.send_modify(|streamed| streamed.torn = true);
    }

    /// An error, for the next request for a stream. As Google's servers do it, it is in an array.
    pub fn refuses_stream(&self, status: u16, reason: &str) {
        self.answers_stream(status, json!([error(status, reason)]));
    }

    /// Any answer, for the next request for a stream.
    pub fn answers_stream(&self, status: u16, body: Value) {
        self.state.lock().unwrap().instead.push_back((status, body));
    }

    /// Requests for messages so far, but for those for a stream.
    pub fn asked(&self) -> Vec<String> {
        self.requests("liveChat/messages?")
    }

    /// Requests for a stream so far.
    pub fn opened(&self) -> Vec<String> {
        self.requests("liveChat/messages/stream?")
    }

    fn requests(&self, of: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.contains(of)).cloned().collect()
    }
}

/// A message as the API has it, written at an instant that is given as RFC 3339.
pub fn item(id: &str, kind: &str, at: &str, details: Value) -> Value {
    let mut item = json!({
        "kind": "youtube#liveChatMessage", "etag": "e", "id": id,
        "snippet": {"type": kind, "liveChatId": "the-chat", "authorChannelId": "UC1", "publishedAt": at},
        "authorDetails": {"channelId": "UC1", "displayName": "@ana"},
    });
    for (name, value) in details.as_object().unwrap() {
        item["snippet"][name] = value.clone();
    }
    item
}

fn error(status: u16, reason: &str) -> Value {
    json!({"error": {
        "code": status, "message": "why", "errors": [{"domain": "youtube.liveChat", "reason": reason}],
    }})
}

/// One connection, kept alive.
async fn serve(stream: TcpStream, state: Arc<Mutex<State>>, streamed: watch::Sender<Streamed>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(request)) = lines.next_line().await {
        while lines.next_line().await.ok().flatten().is_some_and(|line| !line.is_empty()) {}
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, body) = answer(&path, &mut state.lock().unwrap(), streamed.borrow().there);
        if body == json!("stream") {
            let _ = pages(&path, &mut writer, &streamed).await;
            return;
        }
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if writer.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Streams what comes after the page whose token is in the request, until the connection is cut.
async fn pages(path: &str, writer: &mut OwnedWriteHalf, streamed: &watch::Sender<Streamed>) -> std::io::Result<()> {
    let token = path.split('&').find_map(|query| query.strip_prefix("pageToken=page-"));
    let mut told: usize = token.map_or(0, |token| token.parse().unwrap());
    let mut changes = streamed.subscribe();
    let cuts = changes.borrow().cuts;
    writer
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    chunk(writer, b"[").await?;
    let mut first = true;
    loop {
        let now = changes.borrow_and_update().clone();
        if now.cuts > cuts {
            return Ok(());
        }
        for page in &now.pages[told..] {
            let text = format!("{}{page}", if first { "" } else { ",\n" });
            if now.torn {
                streamed.send_modify(|streamed| streamed.torn = false);
                return chunk(writer, &text.as_bytes()[..text.len() / 2]).await;
            }
            for piece in text.as_bytes().chunks(PIECE) {
                chunk(writer, piece).await?;
            }
            (told, first) = (told + 1, false);
        }
        if now.brief {
            chunk(writer, b"]").await?;
            return writer.write_all(b"0\r\n\r\n").await;
        }
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn chunk(writer: &mut OwnedWriteHalf, bytes: &[u8]) -> std::io::Result<()> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    writer.write_all(&chunk).await
}

/// The text `stream` stands for a stream.
fn answer(path: &str, state: &mut State, streams: bool) -> (u16, Value) {
    state.requests.push(path.to_owned());
    if !path.ends_with(&format!("key={KEY}")) {
        let errors = json!([{"reason": "keyInvalid"}]);
        return (400, json!({"error": {"code": 400, "message": "API key not valid.", "errors": errors}}));
    }
    if path.starts_with("/youtube/v3/videos?part=liveStreamingDetails&id=aB3_-9xYz01&") {
        let details = json!({"actualStartTime": "2026-11-21T10:00:00Z", "activeLiveChatId": "the-chat"});
        return (200, json!({"items": [{"id": "aB3_-9xYz01", "liveStreamingDetails": details}]}));
    }
    if path.starts_with("/youtube/v3/liveChat/messages/stream?liveChatId=the-chat&") {
        let unknown = || (404, json!({"error": {"code": 404, "message": "Method not found."}}));
        let there = || if streams { (200, json!("stream")) } else { unknown() };
        return state.instead.pop_front().unwrap_or_else(there);
    }
    if !path.starts_with("/youtube/v3/liveChat/messages?liveChatId=the-chat&") {
        return (200, json!({"items": []}));
    }
    let (status, mut page) = state.answers.pop_front().unwrap_or_else(|| (200, json!({ "items": [] })));
    if status == 200 {
        state.pages += 1;
        page["nextPageToken"] = json!(format!("page-{}", state.pages));
        page["pollingIntervalMillis"] = json!(100);
    }
    (status, page)
}
