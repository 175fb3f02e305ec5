//! A server that speaks what Twitch documents of EventSub's WebSocket and of the API beside it. It stands in for the
//! real one, which no test reaches. Used by the tests of the crate and of the whole system.

// Refusals are answers of axum, whole.
#![allow(clippy::result_large_err)]

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, body::Bytes};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response as Accepted};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Until something that a client does by itself has happened.
const SOON: Duration = Duration::from_secs(30);
/// A connection on which nothing is subscribed to for so long is closed with this code.
const UNUSED_FOR: Duration = Duration::from_secs(10);
const UNUSED: u16 = 4003;
/// What clients authenticate with.
pub const CLIENT_ID: &str = "application";
pub const TOKEN: &str = "user-token";

/// The server.
pub struct EventSubServer {
    socket: SocketAddr,
    api: SocketAddr,
    it: Arc<Mutex<It>>,
}

#[derive(Default)]
struct It {
    channels: BTreeSet<String>,
    live: BTreeSet<String>,
    sessions: BTreeMap<String, Session>,
    /// Subscriptions by their ids.
    subscriptions: BTreeMap<String, Subscription>,
    /// Every request to the API.
    requests: Vec<String>,
    /// Connections and subscriptions there ever were, and messages.
    count: usize,
    connections: usize,
    refuses_token: bool,
    silent: bool,
    max_total_cost: usize,
    /// How long a connection may be unused, where that is not what Twitch says.
    unused: Option<Duration>,
    /// Connections that were closed for that.
    closed_unused: usize,
    /// Channels of which nothing may be subscribed to.
    forbidden: BTreeSet<String>,
    /// Requests for subscriptions are not answered.
    mute: bool,
    socket: String,
}

struct Session {
    to: mpsc::UnboundedSender<Option<String>>,
    /// Something was subscribed to.
    used: bool,
}

struct Subscription {
    session: String,
    kind: String,
    user: String,
}

impl EventSubServer {
    /// With these channels, none of them live, and room for so many subscriptions.
    pub async fn start(channels: &[&str], max_total_cost: usize) -> Self {
        let (sockets, requests) = (listen().await, listen().await);
        let (socket, api) = (sockets.local_addr().unwrap(), requests.local_addr().unwrap());
        let channels = channels.iter().map(|name| (*name).to_owned()).collect();
        let it = It { channels, max_total_cost, socket: socket.to_string(), ..It::default() };
        let it = Arc::new(Mutex::new(it));
        let shared = Arc::clone(&it);
        tokio::spawn(async move {
            while let Ok((stream, _)) = sockets.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        let router = Router::new()
            .route("/helix/users", get(users))
            .route("/helix/streams", get(streams))
            .route("/helix/eventsub/subscriptions", post(subscribe))
            .route("/helix/eventsub/subscriptions", delete(unsubscribe))
            .with_state(Arc::clone(&it));
        tokio::spawn(async move { axum::serve(requests, router).await });
        Self { socket, api, it }
    }

    /// What `twitch.eventsub_url` and `twitch.api_url` are set to.
    pub fn urls(&self) -> (String, String) {
        (format!("ws://{}/ws", self.socket), format!("http://{}/helix", self.api))
    }

    /// The channel goes live; whoever subscribed is told, under this message id.
    pub fn online(&self, channel: &str, message: &str) {
        self.it().live.insert(channel.to_owned());
        self.tell(channel, "stream.online", message, 0);
    }

    pub fn offline(&self, channel: &str, message: &str) {
        self.it().live.remove(channel);
        self.tell(channel, "stream.offline", message, 0);
    }

    /// The same, and nobody is told.
    pub fn online_unheard(&self, channel: &str) {
        self.it().live.insert(channel.to_owned());
    }

    /// A notification that is so many seconds old.
    pub fn tell(&self, channel: &str, kind: &str, message: &str, ago: i64) {
        let it = self.it();
        let user = format!("id-{channel}");
        for (id, one) in it.subscriptions.iter().filter(|(_, one)| one.kind == kind && one.user == user) {
            let payload = json!({
                "subscription": { "id": id, "status": "enabled", "type": kind, "version": "1", "cost": 1 },
                "event": { "broadcaster_user_id": user, "broadcaster_user_login": channel, "type": "live" },
            });
            it.send(&one.session, &envelope("notification", message, ago, payload));
        }
    }

    /// Asks every session to connect again, elsewhere; its subscriptions go over.
    pub fn reconnect(&self) {
        let it = self.it();
        for id in it.sessions.keys() {
            let url = format!("ws://{}/ws?from={id}", it.socket);
            let session =
                json!({ "id": id, "status": "reconnecting", "keepalive_timeout_seconds": null, "reconnect_url": url });
            it.send(id, &envelope("session_reconnect", &format!("move-{id}"), 0, json!({ "session": session })));
        }
    }

    /// Ends the subscriptions of a channel.
    pub fn revoke(&self, channel: &str) {
        let mut it = self.it();
        let user = format!("id-{channel}");
        let (gone, rest) = std::mem::take(&mut it.subscriptions).into_iter().partition(|(_, one)| one.user == user);
        it.subscriptions = rest;
        let gone: BTreeMap<String, Subscription> = gone;
        for (id, one) in gone {
            let subscription = json!({ "id": id, "status": "authorization_revoked", "type": one.kind });
            it.send(&one.session, &envelope("revocation", &id, 0, json!({ "subscription": subscription })));
        }
    }

    /// Says nothing more on any connection, or speaks again on new ones.
    pub fn set_silent(&self, silent: bool) {
        self.it().silent = silent;
    }

    /// Closes connections that are not used for so long.
    pub fn set_unused(&self, limit: Duration) {
        self.it().unused = Some(limit);
    }

    /// How many connections were closed because they were not used.
    pub fn closed_unused(&self) -> usize {
        self.it().closed_unused
    }

    /// Nobody may subscribe to this channel.
    pub fn forbid(&self, channel: &str) {
        self.it().forbidden.insert(channel.to_owned());
    }

    /// Leaves requests for subscriptions without an answer, or answers those that come from now on.
    pub fn set_mute(&self, mute: bool) {
        self.it().mute = mute;
    }

    /// There is room for so many subscriptions from now on.
    pub fn set_room(&self, max_total_cost: usize) {
        self.it().max_total_cost = max_total_cost;
    }

    /// Closes every connection.
    pub fn close_all(&self) {
        self.it().sessions.values().for_each(|session| drop(session.to.send(None)));
    }

    pub fn refuse_token(&self, refuses: bool) {
        self.it().refuses_token = refuses;
    }

    /// How many connections there ever were, and how many there are.
    pub fn connections(&self) -> (usize, usize) {
        let it = self.it();
        (it.connections, it.sessions.len())
    }

    /// Requests to the API so far that begin like this.
    pub fn requests(&self, like: &str) -> usize {
        self.it().requests.iter().filter(|request| request.starts_with(like)).count()
    }

    /// What is subscribed to, as `channel type`.
    pub fn subscribed(&self) -> BTreeSet<String> {
        let it = self.it();
        it.subscriptions.values().map(|one| format!("{} {}", one.user.trim_start_matches("id-"), one.kind)).collect()
    }

    /// Waits until this holds.
    pub async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + SOON;
        while !is(self) {
            assert!(tokio::time::Instant::now() < end, "{what}: {:?}", self.it().requests);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn it(&self) -> MutexGuard<'_, It> {
        self.it.lock().unwrap()
    }
}

impl It {
    /// Whether a connection was not used so far; then it goes.
    fn close_unused(&mut self, session: &str) -> bool {
        let unused = self.sessions.get(session).is_some_and(|session| !session.used);
        self.closed_unused += usize::from(unused);
        unused
    }

    fn send(&self, session: &str, text: &str) {
        if let Some(session) = self.sessions.get(session).filter(|_| !self.silent) {
            let _ = session.to.send(Some(text.to_owned()));
        }
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn envelope(kind: &str, id: &str, ago: i64, payload: Value) -> String {
    let at = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(ago)).unwrap();
    let metadata = json!({ "message_id": id, "message_type": kind, "message_timestamp": format!("{at:.9}") });
    json!({ "metadata": metadata, "payload": payload }).to_string()
}

async fn serve(stream: TcpStream, it: Arc<Mutex<It>>) {
    let mut from = None;
    let asked = |request: &Request, response: Accepted| {
        from = request.uri().query().and_then(|query| query.strip_prefix("from=")).map(str::to_owned);
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, asked).await else { return };
    let (to, mut messages) = mpsc::unbounded_channel();
    let (id, welcome, unused) = {
        let mut it = it.lock().unwrap();
        it.connections += 1;
        let id = format!("session-{}", it.connections);
        it.sessions.insert(id.clone(), Session { to, used: from.is_some() });
        let session = json!({ "id": id, "status": "connected", "keepalive_timeout_seconds": 1, "reconnect_url": null });
        let welcome = envelope("session_welcome", &format!("welcome-{id}"), 0, json!({ "session": session }));
        (id, welcome, it.unused.unwrap_or(UNUSED_FOR))
    };
    if socket.send(Message::text(welcome)).await.is_ok() {
        if let Some(from) = from {
            let mut it = it.lock().unwrap();
            it.subscriptions.values_mut().filter(|one| one.session == from).for_each(|one| one.session = id.clone());
            // The old connection is closed once the new one is welcome.
            if let Some(old) = it.sessions.remove(&from) {
                let _ = old.to.send(None);
            }
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(300));
        let unused = tokio::time::sleep(unused);
        tokio::pin!(unused);
        let mut young = true;
        for tick in 0.. {
            let sent = tokio::select! {
                text = messages.recv() => match text {
                    Some(Some(text)) => socket.send(Message::text(text)).await,
                    _ => socket.close(None).await.and(Err(tokio_tungstenite::tungstenite::Error::ConnectionClosed)),
                },
                heard = socket.next() => match heard {
                    Some(Ok(_)) => Ok(()),
                    _ => break,
                },
                () = &mut unused, if young => {
                    young = false;
                    if it.lock().unwrap().close_unused(&id) {
                        let why = CloseFrame { code: UNUSED.into(), reason: "connection unused".into() };
                        let _ = socket.close(Some(why)).await;
                        break;
                    }
                    Ok(())
                }
                _ = ticks.tick() => {
                    if it.lock().unwrap().silent {
                        continue;
                    }
                    socket.send(Message::text(envelope("session_keepalive", &format!("{id}-{tick}"), 0, json!({})))).await
                }
            };
            if sent.is_err() {
                break;
            }
        }
    }
    let mut it = it.lock().unwrap();
    it.sessions.remove(&id);
    it.subscriptions.retain(|_, one| one.session != id);
}

type Shared = State<Arc<Mutex<It>>>;
type Names = Query<Vec<(String, String)>>;

/// Takes note of a request, and refuses one that does not come with the token.
fn entered<'a>(it: &'a Arc<Mutex<It>>, request: String, headers: &HeaderMap) -> Result<MutexGuard<'a, It>, Response> {
    let mut it = it.lock().unwrap();
    it.requests.push(request);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known = header("client-id") == CLIENT_ID && header("authorization") == format!("Bearer {TOKEN}");
    if !known || it.refuses_token {
        let said = json!({ "error": "Unauthorized", "status": 401, "message": "Invalid OAuth token" });
        return Err((StatusCode::UNAUTHORIZED, Json(said)).into_response());
    }
    Ok(it)
}

async fn users(State(it): Shared, Query(query): Names, headers: HeaderMap) -> Result<Json<Value>, Response> {
    let it = entered(&it, format!("users {}", query.len()), &headers)?;
    let found = query.iter().filter(|(_, login)| it.channels.contains(login));
    let data: Vec<_> = found.map(|(_, login)| json!({ "id": format!("id-{login}"), "login": login })).collect();
    Ok(Json(json!({ "data": data })))
}

async fn streams(State(it): Shared, Query(query): Names, headers: HeaderMap) -> Result<Json<Value>, Response> {
    let it = entered(&it, format!("streams {}", query.len()), &headers)?;
    let live = query.iter().filter(|(key, login)| key == "user_login" && it.live.contains(login));
    let data: Vec<_> = live.map(|(_, login)| json!({ "user_login": login, "type": "live" })).collect();
    Ok(Json(json!({ "data": data, "pagination": {} })))
}

async fn subscribe(State(it): Shared, headers: HeaderMap, body: Bytes) -> Result<Response, Response> {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&body["type"]);
    let session = text(&body["transport"]["session_id"]);
    let user = text(&body["condition"]["broadcaster_user_id"]);
    let mute = entered(&it, format!("subscribe {kind} {user}"), &headers)?.mute;
    if mute {
        std::future::pending::<()>().await;
    }
    let mut it = it.lock().unwrap();
    let known =
        it.sessions.contains_key(&session) && body["version"] == "1" && body["transport"]["method"] == "websocket";
    if !known {
        return Err(
            (StatusCode::BAD_REQUEST, Json(json!({ "status": 400, "message": "no such session" }))).into_response()
        );
    }
    if it.forbidden.contains(user.trim_start_matches("id-")) {
        let said = json!({ "status": 403, "message": "subscription missing proper authorization" });
        return Err((StatusCode::FORBIDDEN, Json(said)).into_response());
    }
    if it.subscriptions.len() >= it.max_total_cost {
        let said = json!({ "status": 429, "message": "number of subscriptions exceeded" });
        return Err((StatusCode::TOO_MANY_REQUESTS, Json(said)).into_response());
    }
    it.count += 1;
    if let Some(session) = it.sessions.get_mut(&session) {
        session.used = true;
    }
    let id = format!("subscription-{}", it.count);
    it.subscriptions.insert(id.clone(), Subscription { session, kind, user });
    let cost = it.subscriptions.len();
    let answer = json!({
        "data": [{ "id": id, "status": "enabled", "cost": 1 }],
        "total": cost, "total_cost": cost, "max_total_cost": it.max_total_cost,
    });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

async fn unsubscribe(State(it): Shared, Query(query): Names, headers: HeaderMap) -> Result<StatusCode, Response> {
    let mut it = entered(&it, "unsubscribe".to_owned(), &headers)?;
    query.iter().for_each(|(_, id)| drop(it.subscriptions.remove(id)));
    Ok(StatusCode::NO_CONTENT)
}
