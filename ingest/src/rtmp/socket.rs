//! A publisher's socket, over TLS or not. While it publishes over plain TCP it is read at a beat that all connections
//! share, and not whenever something arrives: a feed sends a hundred messages a second, and waking for each costs
//! more than reading them. What arrives between two beats waits in the socket, bounded by the system.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::Shutdown;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::handshake;
use super::message::Violation;

/// Bytes that are read at once from a publisher, and from whoever is not one yet.
const PUBLISHER: usize = 64 * 1024;
const STRANGER: usize = 4 * 1024;
/// Beats in one while more arrives than the buffer holds: the system's own buffer may not be larger, and then it is
/// what limits the publisher.
const HURRIED: u32 = 8;
/// Where beats are counted from, so that all connections are read in the same moments.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The connection to one peer.
pub(super) struct Socket {
    carrier: Carrier,
    /// Bytes that were read, of which those from `start` to `end` are not taken yet.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Time between two beats; none while it is read as soon as anything arrives.
    beat: Option<Duration>,
    rush: Rush,
}

/// Whether more arrives than one read takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rush {
    /// It does not.
    #[default]
    None,
    /// It did lately: beats are shorter.
    Lately,
    /// The last read filled the buffer, and has left something in the socket.
    Now,
}

impl Rush {
    /// After a read of so many bytes into so large a buffer.
    fn after(self, count: usize, buffer: usize) -> Self {
        match self {
            _ if count >= buffer => Self::Now,
            Self::None => Self::None,
            Self::Lately | Self::Now if count >= buffer / 2 => Self::Lately,
            Self::Lately | Self::Now => Self::None,
        }
    }
}

enum Carrier {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Plain, and the runtime is not told when something arrives.
    Unwatched(std::net::TcpStream),
    /// While it goes from one to the other, and if that failed.
    Lost,
}

impl Socket {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self::new(Carrier::Plain(stream))
    }

    pub(super) fn secured(stream: TlsStream<TcpStream>) -> Self {
        Self::new(Carrier::Tls(Box::new(stream)))
    }

    fn new(carrier: Carrier) -> Self {
        Self { carrier, buffer: vec![0; STRANGER], start: 0, end: 0, beat: None, rush: Rush::None }
    }

    /// The server's part of the handshake.
    pub(super) async fn shake_hands(&mut self) -> Result<std::result::Result<(), Violation>> {
        match &mut self.carrier {
            Carrier::Plain(stream) => handshake::accept(stream).await,
            Carrier::Tls(stream) => handshake::accept(stream).await,
            Carrier::Unwatched(_) | Carrier::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// From now on it is read at a beat; of no length, as soon as anything arrives.
    pub(super) fn keep_beat(&mut self, beat: Duration) -> Result<()> {
        self.buffer.resize(PUBLISHER, 0);
        if beat.is_zero() {
            return Ok(());
        }
        self.beat = Some(beat);
        self.carrier = match std::mem::replace(&mut self.carrier, Carrier::Lost) {
            Carrier::Plain(stream) => Carrier::Unwatched(stream.into_std()?),
            other => other,
        };
        Ok(())
    }

    /// What was read and not taken yet.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Says how much of it is left.
    pub(super) fn left(&mut self, left: usize) {
        self.start = self.end - left.min(self.end - self.start);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads more; 0 at the end. Everything was taken before. Dropped before it is done, nothing is lost.
    pub(super) async fn read(&mut self) -> Result<usize> {
        let full = self.rush == Rush::Now;
        let beat = self.beat.map(|beat| if self.rush == Rush::None { beat } else { beat / HURRIED });
        (self.start, self.end) = (0, 0);
        let count = match (&mut self.carrier, beat) {
            (Carrier::Plain(stream), _) => stream.read(&mut self.buffer).await?,
            (Carrier::Tls(stream), beat) => {
                if let Some(beat) = beat.filter(|_| !full) {
                    tokio::time::sleep_until(next(beat)).await;
                }
                stream.read(&mut self.buffer).await?
            }
            (Carrier::Unwatched(stream), beat) => {
                let mut now = full;
                loop {
                    if !now {
                        tokio::time::sleep_until(next(beat.unwrap_or_default())).await;
                    }
                    match stream.read(&mut self.buffer) {
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => now = false,
                        Err(error) if matches!(error.kind(), ErrorKind::Interrupted) => now = true,
                        read => break read?,
                    }
                }
            }
            (Carrier::Lost, _) => return Err(ErrorKind::NotConnected.into()),
        };
        self.end = count;
        self.rush = self.rush.after(count, self.buffer.len());
        Ok(count)
    }

    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        match &mut self.carrier {
            Carrier::Plain(stream) => stream.write_all(bytes).await,
            Carrier::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Carrier::Unwatched(stream) => {
                // Answers to a publisher are few and short: the system takes them at once, unless nobody reads them.
                while !bytes.is_empty() {
                    match stream.write(bytes) {
                        Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {
                            tokio::time::sleep_until(next(self.beat.unwrap_or_default())).await;
                        }
                        Err(error) if matches!(error.kind(), ErrorKind::Interrupted) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
            Carrier::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Says that nothing more will come, and reads over what the peer still sends, until it closes too: a socket
    /// that is closed with bytes unread resets the connection, and a peer that is still writing would see that
    /// instead of the last answer.
    pub(super) async fn linger(&mut self) {
        let shut = match &mut self.carrier {
            Carrier::Plain(stream) => stream.shutdown().await,
            Carrier::Tls(stream) => stream.shutdown().await,
            Carrier::Unwatched(stream) => stream.shutdown(Shutdown::Write),
            Carrier::Lost => return,
        };
        if shut.is_ok() {
            while self.read().await.is_ok_and(|count| count > 0) {}
        }
    }
}

/// The next beat.
fn next(beat: Duration) -> Instant {
    let since = EPOCH.elapsed();
    let beat = beat.max(Duration::from_millis(1));
    let beats = since.as_micros() / beat.as_micros() + 1;
    let ahead = u64::try_from(beats * beat.as_micros()).map_or(beat, |at| Duration::from_micros(at) - since);
    Instant::now() + ahead
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    /// Reads as a connection does: everything is taken before more is read.
    async fn take(socket: &mut Socket) -> usize {
        let count = socket.read().await.unwrap();
        socket.left(0);
        count
    }

    #[tokio::test]
    async fn a_read_that_fills_the_buffer_is_followed_by_another_without_a_beat() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut socket = Socket::plain(listener.accept().await.unwrap().0);
        socket.keep_beat(Duration::from_millis(8)).unwrap();
        // The system hands over what it has: small pieces, so that the buffer is surely filled.
        socket.buffer.truncate(100);
        peer.write_all(&[7; 250]).await.unwrap();
        let mut rushes = Vec::new();
        let mut sum = 0;
        while sum < 250 {
            sum += take(&mut socket).await;
            rushes.push(socket.rush);
        }
        assert_eq!(rushes, [Rush::Now, Rush::Now, Rush::Lately]);
        peer.write_all(&[7; 10]).await.unwrap();
        assert_eq!((take(&mut socket).await, socket.rush), (10, Rush::None));
    }
}
