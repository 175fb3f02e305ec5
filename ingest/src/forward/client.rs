//! One connection to a server that a feed is relayed to: handshake, connect, publish.

use crest_core::stream::ForwardTarget;
use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::patient::Patient;
use super::tag::Tag;
use super::wire::{Reader, Writer};
use crate::pull::Allowed;
use crate::rtmp::amf::Value;
use crate::rtmp::command::{AUDIO_CODECS, Command, VIDEO_CODECS};
use crate::rtmp::handshake;
use crate::rtmp::message::{
    ACKNOWLEDGEMENT, CHUNK_SIZE, COMMAND, COMMAND_AMF3, Message, WINDOW, WINDOW_ACKNOWLEDGEMENT_SIZE,
};

const WRITE_BUFFER: usize = 64 * 1024;

// Numbers of the commands, by which their answers name them.
const CONNECT: f64 = 1.0;
const RELEASE: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH: f64 = 5.0;
const FC_UNPUBLISH: f64 = 6.0;
const DELETE_STREAM: f64 = 7.0;

/// Characters of what a server says that are passed on.
const REASON: usize = 200;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The way out: which addresses may be connected to, and whose certificates are believed.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) allowed: Allowed,
    pub(super) tls: Arc<ClientConfig>,
}

/// A server that has accepted the feed.
pub(super) struct Client {
    reader: Reader<ReadHalf<Box<dyn Duplex>>>,
    writer: Writer<BufWriter<WriteHalf<Box<dyn Duplex>>>>,
    stream: u32,
    window: u32,
    key: String,
    /// The query of the address, which may be a secret too.
    query: String,
}

impl Client {
    /// Connects, and publishes under the target's key. The error is what the server's owner can do something
    /// about, without secrets. From then on the server may be as slow as it likes, but not take nothing for `limit`.
    pub(super) async fn publish(target: &ForwardTarget, door: &Door, limit: Duration) -> Result<Self, String> {
        let url = Url::parse(&target.url).map_err(|error| error.to_string())?;
        door.allowed.check(&url, &["rtmp", "rtmps"])?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let secure = url.scheme() == "rtmps";
        let port = url.port().unwrap_or(if secure { 443 } else { 1935 });
        let unreachable = |error: io::Error| format!("it cannot be reached: {error}");
        let address = door.allowed.resolve(&host, port).await.map_err(unreachable)?;
        let socket = TcpStream::connect(address).await.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let socket = Patient::new(socket, limit);
        let mut duplex: Box<dyn Duplex> = if secure {
            let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
            let secured = TlsConnector::from(Arc::clone(&door.tls)).connect(name, socket).await;
            Box::new(secured.map_err(|error| format!("the TLS handshake failed: {error}"))?)
        } else {
            Box::new(socket)
        };
        let shaken = handshake::connect(&mut duplex).await;
        shaken.map_err(|error| format!("the handshake broke off: {error}"))?.map_err(|_| "what it says is not RTMP")?;
        let (from, to) = tokio::io::split(duplex);
        let (reader, writer) = (Reader::new(from), Writer::new(BufWriter::with_capacity(WRITE_BUFFER, to)));
        let (key, query) = (target.stream_key.clone().unwrap_or_default(), url.query().unwrap_or_default().to_owned());
        let mut client = Self { reader, writer, stream: 0, window: WINDOW, key, query };
        client.begin(&url).await?;
        Ok(client)
    }

    /// From the first command to the server's word that it takes the feed.
    async fn begin(&mut self, url: &Url) -> Result<(), String> {
        let mut application = url.path().trim_matches('/').to_owned();
        if let Some(query) = url.query() {
            application = format!("{application}?{query}");
        }
        let codecs = VIDEO_CODECS.into_iter().chain(AUDIO_CODECS).map(Value::text);
        let settings = [
            ("app", Value::Text(application)),
            ("type", Value::text("nonprivate")),
            ("flashVer", Value::text("FMLE/3.0 (compatible; crest)")),
            ("tcUrl", Value::text(url.as_str().trim_end_matches('/'))),
            ("fourCcList", Value::Array(codecs.collect())),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
        self.command(0, "connect", CONNECT, vec![Value::Object(settings)]).await?;
        self.answer(CONNECT).await?;
        self.writer.set_chunk_size(CHUNK_SIZE).await.map_err(broke)?;
        let key = Value::text(&self.key);
        // Some servers want these two; none has to answer them.
        self.command(0, "releaseStream", RELEASE, vec![Value::Null, key.clone()]).await?;
        self.command(0, "FCPublish", FC_PUBLISH, vec![Value::Null, key.clone()]).await?;
        self.command(0, "createStream", CREATE_STREAM, vec![Value::Null]).await?;
        let made = self.answer(CREATE_STREAM).await?;
        // As a cast it ends at the bounds; what is no id is refused by the server.
        self.stream = made.argument(0).ok_or("the server made no stream")? as u32;
        self.command(self.stream, "publish", PUBLISH, vec![Value::Null, key, Value::text("live")]).await?;
        self.flush().await?;
        loop {
            if let Some(status) = self.hear().await?
                && status.info("code").starts_with("NetStream.Publish.Start")
            {
                return Ok(());
            }
        }
    }

    /// Waits for the answer to a command.
    async fn answer(&mut self, number: f64) -> Result<Command, String> {
        self.flush().await?;
        loop {
            if let Some(command) = self.hear().await?
                && command.name == "_result"
                && same(command.number, number)
            {
                return Ok(command);
            }
        }
    }

    /// The next thing that the server says, if it is a command.
    async fn hear(&mut self) -> Result<Option<Command>, String> {
        let message = self.next().await?;
        self.heed(&message).await
    }

    /// The next message. Dropped before it has come, nothing is lost; it has to be given to [`Client::heed`].
    pub(super) async fn next(&mut self) -> Result<Message, String> {
        self.reader.next().await
    }

    /// Does what a message asks for, and answers the command that it is, if it is one. What ends the relay is an
    /// error.
    pub(super) async fn heed(&mut self, message: &Message) -> Result<Option<Command>, String> {
        if self.reader.unacknowledged >= self.window {
            self.reader.unacknowledged = 0;
            self.say(&Message::control(ACKNOWLEDGEMENT, self.reader.sum.to_be_bytes().to_vec())).await?;
        }
        if message.kind == WINDOW_ACKNOWLEDGEMENT_SIZE {
            self.window = message.number().unwrap_or(WINDOW).max(1);
        }
        if let Some(pong) = message.pong() {
            self.say(&pong).await?;
        }
        // Some servers leave out what a command should have, where nobody waits for it.
        let is_command = matches!(message.kind, COMMAND | COMMAND_AMF3);
        let Some(command) = is_command.then(|| Command::read(message)).and_then(Result::ok) else { return Ok(None) };
        let needless = same(command.number, RELEASE) || same(command.number, FC_PUBLISH);
        let refused = command.name == "_error" && !needless;
        let failed = command.name == "onStatus" && command.info("level") == "error";
        let over = command.info("code").starts_with("NetStream.Unpublish");
        if refused || failed || over || command.name == "close" {
            return Err(self.reason(&command));
        }
        Ok(Some(command))
    }

    async fn command(&mut self, stream: u32, name: &str, number: f64, values: Vec<Value>) -> Result<(), String> {
        self.writer.write(&Command::new(name, number, values).message(stream)).await.map_err(broke)
    }

    async fn say(&mut self, message: &Message) -> Result<(), String> {
        self.writer.write(message).await.map_err(broke)?;
        self.flush().await
    }

    /// Writes a message of the feed; it may stay in the buffer until [`Client::flush`].
    pub(super) async fn send(&mut self, tag: &Tag) -> Result<(), String> {
        let message = Message { kind: tag.kind, stream: self.stream, timestamp: tag.timestamp, body: tag.body.clone() };
        self.writer.write(&message).await.map_err(broke)
    }

    pub(super) async fn flush(&mut self) -> Result<(), String> {
        self.writer.to.flush().await.map_err(broke)
    }

    /// Says that the feed is over.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        let (key, stream) = (Value::text(&self.key), Value::Number(f64::from(self.stream)));
        self.command(0, "FCUnpublish", FC_UNPUBLISH, vec![Value::Null, key]).await?;
        self.command(0, "deleteStream", DELETE_STREAM, vec![Value::Null, stream]).await?;
        self.flush().await?;
        self.writer.to.shutdown().await.map_err(broke)
    }

    /// The key and the query, whole and in parts, the longest first: servers repeat the one or the other.
    fn secrets(&self) -> Vec<&str> {
        /// What is shorter says nothing.
        const SHORTEST: usize = 4;
        let whole = [self.key.as_str(), self.query.as_str()];
        let parts = whole.iter().flat_map(|secret| secret.split(['?', '&', '=']));
        let mut secrets: Vec<&str> = whole.iter().copied().chain(parts).filter(|s| s.len() >= SHORTEST).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    /// Why the server does not want the feed, in its words, without secrets.
    fn reason(&self, command: &Command) -> String {
        let (code, description) = (command.info("code"), command.info("description"));
        let mut said = match (description, code) {
            ("", "") => command.name.clone(),
            ("", code) => code.to_owned(),
            (description, "") => description.to_owned(),
            (description, code) => format!("{description} ({code})"),
        };
        for secret in self.secrets() {
            said = said.replace(secret, "…");
        }
        let said: String = said.chars().filter(|c| !c.is_control()).take(REASON).collect();
        format!("the server refused: {said}")
    }
}

fn broke(error: io::Error) -> String {
    format!("the connection broke: {error}")
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.5
}
