//! A server that speaks what Twitch documents of its IRC: capabilities, tags, notices. It stands in for the real
//! one, which no test reaches. Also included by the tests of the whole system.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Until something that a client does by itself has happened.
const SOON: Duration = Duration::from_secs(30);

/// The server.
pub struct TwitchServer {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Channels that there are.
    channels: BTreeSet<String>,
    /// Every connection there ever was.
    connections: Vec<Client>,
    /// Every line that was received.
    lines: Vec<String>,
}

struct Client {
    to: mpsc::UnboundedSender<Option<String>>,
    joined: BTreeSet<String>,
    tags: bool,
    open: bool,
}

impl TwitchServer {
    /// With these channels.
    pub async fn start(channels: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let channels = channels.iter().map(|name| (*name).to_owned()).collect();
        let seen = Arc::new(Mutex::new(Seen { channels, ..Seen::default() }));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, seen }
    }

    /// What `chat.twitch.server` is set to.
    pub fn url(&self) -> String {
        format!("irc://{}", self.address)
    }

    /// A line to everybody who joined the channel.
    pub fn say(&self, channel: &str, line: &str) {
        for client in self.seen.lock().unwrap().connections.iter().filter(|client| client.joined.contains(channel)) {
            assert!(client.tags, "tags were not asked for");
            let _ = client.to.send(Some(line.to_owned()));
        }
    }

    /// A message by a user at an instant, in milliseconds since 1970.
    pub fn message(&self, channel: &str, id: &str, user: &str, at: i64, text: &str) {
        self.say(
            channel,
            &format!(
                "@badge-info=;badges=;color=;display-name={user};emotes=;first-msg=0;flags=;id={id};mod=0;room-id=1;\
                 subscriber=0;tmi-sent-ts={at};turbo=0;user-id=2;user-type= :{user}!{user}@{user}.tmi.twitch.tv \
                 PRIVMSG #{channel} :{text}"
            ),
        );
    }

    /// A line to everybody.
    pub fn tell(&self, line: &str) {
        for client in &self.seen.lock().unwrap().connections {
            let _ = client.to.send(Some(line.to_owned()));
        }
    }

    /// Closes every connection.
    pub fn drop_all(&self) {
        for client in &self.seen.lock().unwrap().connections {
            let _ = client.to.send(None);
        }
    }

    /// Connections that there are, and that there ever were.
    pub fn connections(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap();
        (seen.connections.iter().filter(|client| client.open).count(), seen.connections.len())
    }

    /// Every line that was received.
    pub fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().lines.clone()
    }

    /// Waits until somebody is in the channel, on a connection that is open.
    pub async fn joined(&self, channel: &str) {
        let inside = |seen: &Seen| seen.connections.iter().any(|client| client.open && client.joined.contains(channel));
        self.until(&format!("joining {channel}"), inside).await;
    }

    /// Waits until there is this line among those received.
    pub async fn received(&self, line: &str) {
        self.until(line, |seen| seen.lines.iter().any(|received| received == line)).await;
    }

    /// Waits until no connection is open.
    pub async fn left(&self) {
        self.until("leaving", |seen| seen.connections.iter().all(|client| !client.open)).await;
    }

    async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let end = tokio::time::Instant::now() + SOON;
        while !condition(&self.seen.lock().unwrap()) {
            assert!(tokio::time::Instant::now() < end, "{what} did not happen; received: {:#?}", self.lines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One connection.
async fn serve(stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let (reader, mut writer) = stream.into_split();
    let (to, mut from) = mpsc::unbounded_channel();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.connections.push(Client { to, joined: BTreeSet::new(), tags: false, open: true });
        seen.connections.len() - 1
    };
    let (mut lines, mut nick) = (BufReader::new(reader).lines(), String::new());
    loop {
        let answer = tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => answer(&line, &mut nick, &mut seen.lock().unwrap(), number),
                _ => break,
            },
            line = from.recv() => match line.flatten() {
                Some(line) => line + "\r\n",
                None => break,
            },
        };
        if writer.write_all(answer.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut seen = seen.lock().unwrap();
    seen.connections[number].open = false;
    seen.connections[number].joined.clear();
}

fn answer(line: &str, nick: &mut String, seen: &mut Seen, number: usize) -> String {
    seen.lines.push(line.to_owned());
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let client = &mut seen.connections[number];
    match command {
        "CAP" => {
            client.tags = rest.contains("twitch.tv/tags") && rest.contains("twitch.tv/commands");
            format!(":tmi.twitch.tv CAP * ACK {}\r\n", rest.trim_start_matches("REQ "))
        }
        "NICK" => {
            *nick = rest.to_owned();
            let welcome = [("001", "Welcome, GLHF!"), ("002", "Your host is tmi.twitch.tv"), ("376", ">")];
            welcome.iter().map(|(code, text)| format!(":tmi.twitch.tv {code} {nick} :{text}\r\n")).collect()
        }
        "JOIN" => {
            let channel = rest.trim_start_matches('#');
            if !seen.channels.contains(channel) {
                return format!(
                    "@msg-id=msg_channel_suspended :tmi.twitch.tv NOTICE #{channel} :This channel does not exist or has \
                     been suspended.\r\n"
                );
            }
            client.joined.insert(channel.to_owned());
            format!(
                ":{nick}!{nick}@{nick}.tmi.twitch.tv JOIN #{channel}\r\n\
                 :{nick}.tmi.twitch.tv 353 {nick} = #{channel} :{nick}\r\n\
                 :{nick}.tmi.twitch.tv 366 {nick} #{channel} :End of /NAMES list\r\n\
                 @emote-only=0;followers-only=-1;r9k=0;room-id=1;slow=0;subs-only=0 :tmi.twitch.tv ROOMSTATE #{channel}\r\n"
            )
        }
        "PART" => {
            client.joined.remove(rest.trim_start_matches('#'));
            format!(":{nick}!{nick}@{nick}.tmi.twitch.tv PART {rest}\r\n")
        }
        "PING" => format!(":tmi.twitch.tv PONG tmi.twitch.tv {rest}\r\n"),
        _ => String::new(),
    }
}
