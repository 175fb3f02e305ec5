//! A connection to a server that may be slow, but has to take something of what is written.

#![allow(unsafe_code, reason = "asks the system how much it has not got rid of")]

use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// How often within the limit it is looked at whether the server takes something.
const LOOKS: u32 = 8;

/// A connection on which a write fails once the server has taken nothing for as long as the limit. What counts is what
/// the server's system has acknowledged: the own one asks for more only after it got rid of a third of its buffer, which
/// may be megabytes.
pub(super) struct Patient {
    stream: TcpStream,
    limit: Duration,
    stuck: Option<Stuck>,
}

/// A write that waits.
struct Stuck {
    /// Bytes that the server had not taken when something moved last, and when that was.
    left: Option<u32>,
    since: Instant,
    look: Pin<Box<Sleep>>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, limit: Duration) -> Self {
        Self { stream, limit, stuck: None }
    }

    /// What a write comes to that the system does not take now.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let (limit, every) = (self.limit, self.limit / LOOKS);
        loop {
            let (now, left) = (Instant::now(), untaken(&self.stream));
            let stuck = self.stuck.get_or_insert_with(|| Stuck { left, since: now, look: Box::pin(sleep(every)) });
            if left < stuck.left {
                (stuck.left, stuck.since) = (left, now);
            } else if now.duration_since(stuck.since) >= limit {
                return Poll::Ready(Error::new(ErrorKind::TimedOut, format!("it took nothing for {limit:?}")));
            }
            ready!(stuck.look.as_mut().poll(cx));
            stuck.look = Box::pin(sleep(every));
        }
    }
}

/// Bytes that were written and that the server's system has not acknowledged, where this system tells.
fn untaken(stream: &TcpStream) -> Option<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the stream, and the request writes one integer.
    let asked = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    u32::try_from(bytes).ok().filter(|_| asked == 0)
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => self.wait(cx).map(Err),
            Poll::Ready(written) => {
                self.stuck = None;
                Poll::Ready(written)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}
