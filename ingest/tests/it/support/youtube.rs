//! A server that answers what YouTube documents of its Data API v3: `videos` and `liveChat/messages`. It stands in
//! for the real one, which no test reaches.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The key that it wants.
pub const KEY: &str = "the-key-of-the-tests";

/// The server.
pub struct YoutubeServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What the next requests for messages are answered with; then empty pages follow.
    answers: VecDeque<(u16, Value)>,
    /// Every request's path and query.
    requests: Vec<String>,
    pages: usize,
}

impl YoutubeServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state }
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
        let error =
            json!({"code": status, "message": "why", "errors": [{"domain": "youtube.liveChat", "reason": reason}]});
        self.state.lock().unwrap().answers.push_back((status, json!({ "error": error })));
    }

    /// Requests for messages so far.
    pub fn asked(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.contains("liveChat/messages")).cloned().collect()
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

/// One connection, kept alive.
async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(request)) = lines.next_line().await {
        while lines.next_line().await.ok().flatten().is_some_and(|line| !line.is_empty()) {}
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, body) = answer(&path, &mut state.lock().unwrap());
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if writer.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(path: &str, state: &mut State) -> (u16, Value) {
    state.requests.push(path.to_owned());
    if !path.ends_with(&format!("key={KEY}")) {
        let errors = json!([{"reason": "keyInvalid"}]);
        return (400, json!({"error": {"code": 400, "message": "API key not valid.", "errors": errors}}));
    }
    if path.starts_with("/youtube/v3/videos?part=liveStreamingDetails&id=aB3_-9xYz01&") {
        let details = json!({"actualStartTime": "2026-11-21T10:00:00Z", "activeLiveChatId": "the-chat"});
        return (200, json!({"items": [{"id": "aB3_-9xYz01", "liveStreamingDetails": details}]}));
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
