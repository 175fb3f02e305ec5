//! A publisher without a library: it can say what no library says.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{succeed, wait_for};

/// How long an answer, or the end of a connection, may take on a busy machine.
pub const ANSWER: Duration = Duration::from_secs(30);
/// Message types.
pub const SET_CHUNK_SIZE: u8 = 1;
pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;
pub const COMMAND: u8 = 20;
/// Where commands travel, and the message stream that the server gives out first.
const COMMANDS: u8 = 3;
const STREAM: u32 = 1;

/// One connection.
pub struct Client {
    socket: TcpStream,
    chunk: usize,
    /// What the server said that nobody has asked for yet.
    heard: Vec<u8>,
}

impl Client {
    /// Connects, and says nothing.
    pub async fn connect(rtmp: &str) -> Result<Self> {
        Self::connect_from("127.0.0.1", rtmp).await
    }

    /// Connects from another address of this machine.
    pub async fn connect_from(source: &str, rtmp: &str) -> Result<Self> {
        let address: SocketAddr =
            rtmp.trim_start_matches("rtmp://").trim_end_matches("/live").parse().context("an address")?;
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source.parse()?, 0))?;
        let socket = socket.connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, chunk: 128, heard: Vec::new() })
    }

    /// Connects and shakes hands.
    pub async fn open(rtmp: &str) -> Result<Self> {
        let mut client = Self::connect(rtmp).await?;
        client.shake().await?;
        Ok(client)
    }

    /// Everything that a publisher does until its media is expected.
    pub async fn publish(rtmp: &str, key: &str) -> Result<Self> {
        let mut client = Self::open(rtmp).await?;
        client.set_chunk_size(4096).await?;
        client.command("connect", 1.0, &[object(&[("app", text("live")), ("type", text("nonprivate"))])]).await?;
        client.until("NetConnection.Connect.Success").await?;
        client.command("releaseStream", 2.0, &[null(), text(key)]).await?;
        client.command("createStream", 3.0, &[null()]).await?;
        client.ask_to_publish(key).await?;
        client.until("NetStream.Publish.Start").await?;
        Ok(client)
    }

    /// Says `publish` again, or for the first time.
    pub async fn ask_to_publish(&mut self, key: &str) -> Result<()> {
        let payload = [text("publish"), number(5.0), null(), text(key), text("live")].concat();
        self.message(COMMANDS, COMMAND, STREAM, 0, &payload).await
    }

    /// C0, C1 and C2; what the server answers is read over.
    pub async fn shake(&mut self) -> Result<()> {
        let mut hello = vec![3];
        hello.resize(1 + 1536, 7);
        self.send(&hello).await?;
        let mut answer = vec![0; 1 + 1536 + 1536];
        tokio::time::timeout(ANSWER, self.socket.read_exact(&mut answer)).await.context("no handshake")??;
        ensure!(answer.first() == Some(&3), "the server's handshake is of another version");
        self.send(answer.get(1..1537).context("S1")?).await
    }

    /// Bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        tokio::time::timeout(ANSWER, self.socket.write_all(bytes)).await.context("the server does not read")??;
        Ok(())
    }

    /// Bytes as they are, by somebody who does not care whether anybody still listens.
    pub async fn shout(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(ANSWER, self.socket.write_all(bytes)).await;
    }

    /// Tells the server how long chunks are from now on, and sends such.
    pub async fn set_chunk_size(&mut self, size: u32) -> Result<()> {
        self.message(2, SET_CHUNK_SIZE, 0, 0, &size.to_be_bytes()).await?;
        self.chunk = usize::try_from(size)?;
        Ok(())
    }

    /// A command on the connection.
    pub async fn command(&mut self, name: &str, transaction: f64, values: &[Vec<u8>]) -> Result<()> {
        let payload = [text(name), number(transaction), values.concat()].concat();
        self.message(COMMANDS, COMMAND, 0, 0, &payload).await
    }

    /// A message, cut into chunks.
    pub async fn message(&mut self, chunks: u8, kind: u8, stream: u32, at: u32, payload: &[u8]) -> Result<()> {
        let bytes = message(chunks, kind, stream, at, payload, self.chunk);
        self.send(&bytes).await
    }

    /// One audio or video tag of the published stream.
    pub async fn tag(&mut self, tag: &Tag) -> Result<()> {
        self.message(if tag.kind == VIDEO { 6 } else { 4 }, tag.kind, STREAM, tag.at, &tag.body).await
    }

    /// Many tags; returns when the server has taken the last.
    pub async fn tags<'a>(&mut self, tags: impl IntoIterator<Item = &'a Tag>) -> Result<()> {
        for tag in tags {
            self.tag(tag).await?;
        }
        Ok(())
    }

    /// Reads until the server has said this.
    pub async fn until(&mut self, words: &str) -> Result<()> {
        let found = |heard: &[u8]| heard.windows(words.len()).any(|window| window == words.as_bytes());
        while !found(&self.heard) {
            let mut more = vec![0; 4096];
            let count = tokio::time::timeout(ANSWER, self.socket.read(&mut more)).await;
            let count = count.with_context(|| format!("the server did not say {words}"))??;
            let said = String::from_utf8_lossy(&self.heard).into_owned();
            ensure!(count > 0, "the server closed without saying {words}; it said {said:?}");
            self.heard.extend_from_slice(more.get(..count).unwrap_or_default());
        }
        self.heard.clear();
        Ok(())
    }

    /// Waits until the server closes the connection, and returns what it said before that.
    pub async fn closed(mut self) -> Result<String> {
        let rest = async {
            let mut more = vec![0; 4096];
            // A reset is an end too.
            while let Ok(count @ 1..) = self.socket.read(&mut more).await {
                self.heard.extend_from_slice(more.get(..count).unwrap_or_default());
            }
        };
        tokio::time::timeout(ANSWER, rest).await.context("the server keeps the connection open")?;
        Ok(String::from_utf8_lossy(&self.heard).into_owned())
    }

    /// Waits until the server's system has all that was sent, and is gone as if it had crashed then: what
    /// the server still says meets a reset.
    pub async fn hang_up(self) -> Result<()> {
        let port = format!(":{:04X} ", self.socket.local_addr()?.port());
        let sent = || async {
            let sockets = tokio::fs::read_to_string("/proc/net/tcp").await?;
            // The local address stands in the first columns, the bytes on their way behind the state.
            let ours = sockets.lines().find(|line| line.find(&port).is_some_and(|at| at < 20));
            Ok(ours.context("our socket")?.contains(" 00000000:").then_some(()))
        };
        wait_for("all bytes to be sent", ANSWER, sent).await?;
        self.socket.set_zero_linger()?;
        Ok(())
    }

    /// Closes the sending half: everything was sent, nothing more comes.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.socket.shutdown().await?)
    }
}

/// A message in chunks of this size.
pub fn message(chunks: u8, kind: u8, stream: u32, at: u32, payload: &[u8], chunk: usize) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let extended = at >= 0xff_ffff;
    let shown = if extended { [0, 0xff, 0xff, 0xff] } else { at.to_be_bytes() };
    let mut bytes = vec![chunks, shown[1], shown[2], shown[3], length[1], length[2], length[3], kind];
    bytes.extend(stream.to_le_bytes());
    for (index, piece) in payload.chunks(chunk.max(1)).enumerate() {
        if index > 0 {
            bytes.push(0xc0 | chunks);
        }
        if extended {
            bytes.extend(at.to_be_bytes());
        }
        bytes.extend(piece);
    }
    bytes
}

/// AMF0: a number.
pub fn number(value: f64) -> Vec<u8> {
    [&[0][..], &value.to_be_bytes()].concat()
}

/// AMF0: a string.
pub fn text(value: &str) -> Vec<u8> {
    [vec![2], name(value)].concat()
}

/// AMF0: null.
pub fn null() -> Vec<u8> {
    vec![5]
}

/// AMF0: an object.
pub fn object(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let properties = properties.iter().flat_map(|(key, value)| [name(key), value.clone()].concat());
    [vec![3], properties.collect(), vec![0, 0, 9]].concat()
}

/// The name of a property: a string without its marker.
pub fn name(value: &str) -> Vec<u8> {
    [&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes()[..], value.as_bytes()].concat()
}

/// A tag as RTMP carries it.
#[derive(Debug, Clone)]
pub struct Tag {
    /// [`AUDIO`] or [`VIDEO`].
    pub kind: u8,
    /// Milliseconds.
    pub at: u32,
    /// The FLV tag's body.
    pub body: Vec<u8>,
}

impl Tag {
    /// Whether it configures the decoder.
    pub fn is_configuration(&self) -> bool {
        self.body.get(1) == Some(&0)
    }

    /// The same at another time.
    pub fn at(&self, at: u32) -> Self {
        Self { at, ..self.clone() }
    }
}

/// The first seconds of a file as the tags of a publisher, the configurations first.
pub async fn tags_of(file: &Path, seconds: u32) -> Result<Vec<Tag>> {
    let (file, seconds) = (file.display().to_string(), seconds.to_string());
    let args = ["-nostdin", "-v", "error", "-i", &file, "-t", &seconds, "-c", "copy", "-f", "flv", "pipe:1"];
    let flv = succeed("ffmpeg", args).await?.out;
    let mut rest = flv.get(9 + 4..).context("no FLV")?;
    let mut tags = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(11) {
        let length = usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
        let (body, after) = after.split_at_checked(length).context("FLV breaks off")?;
        if matches!(header[0], AUDIO | VIDEO) {
            let at = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
            tags.push(Tag { kind: header[0], at, body: body.to_vec() });
        }
        rest = after.get(4..).unwrap_or_default();
    }
    Ok(tags)
}
