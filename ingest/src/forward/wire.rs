//! Messages to and from a server that a feed is relayed to.

use std::io::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::rtmp::chunks::{self, Chunks};
use crate::rtmp::message::{COMMAND, Message, SET_CHUNK_SIZE, WINDOW_ACKNOWLEDGEMENT_SIZE};

/// Chunk streams: what is not media goes by its kind.
const CONTROL_CHUNKS: u8 = 2;
const COMMAND_CHUNKS: u8 = 3;
const MEDIA_CHUNKS: u8 = 4;
/// Bytes that a server may announce in messages: its answers are a few hundred.
const ANSWERS: usize = 64 * 1024;
/// Bytes that are read at once.
const READ: usize = 4096;

/// Where messages go.
pub(super) struct Writer<W> {
    pub(super) to: W,
    chunk_size: usize,
    /// The message that is being written, in chunks.
    chunks: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, chunk_size: chunks::FIRST_CHUNK_SIZE, chunks: Vec::new() }
    }

    /// Says how large chunks are from now on, and makes them so.
    pub(super) async fn set_chunk_size(&mut self, size: u32) -> Result<()> {
        self.write(&chunks::set_chunk_size(size)).await?;
        self.chunk_size = usize::try_from(size).unwrap_or(chunks::FIRST_CHUNK_SIZE);
        Ok(())
    }

    /// Writes one message.
    pub(super) async fn write(&mut self, message: &Message) -> Result<()> {
        let chunk_stream = match message.kind {
            COMMAND => COMMAND_CHUNKS,
            SET_CHUNK_SIZE..=WINDOW_ACKNOWLEDGEMENT_SIZE => CONTROL_CHUNKS,
            _ => MEDIA_CHUNKS,
        };
        self.chunks.clear();
        chunks::write(message, chunk_stream, self.chunk_size, &mut self.chunks);
        self.to.write_all(&self.chunks).await
    }
}

/// Where a server's messages come from, within bounds.
pub(super) struct Reader<R> {
    from: R,
    chunks: Chunks,
    /// What was read, of which what lies before `taken` is taken.
    read: Vec<u8>,
    taken: usize,
    /// Bytes that were read and not acknowledged yet.
    pub(super) unacknowledged: u32,
    /// All bytes that were read; wraps.
    pub(super) sum: u32,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// After the handshake.
    pub(super) fn new(from: R) -> Self {
        let read = Vec::with_capacity(READ);
        Self { from, chunks: Chunks::new(ANSWERS), read, taken: 0, unacknowledged: 0, sum: 0 }
    }

    /// Where they come from.
    #[cfg(test)]
    pub(super) fn into_inner(self) -> R {
        self.from
    }

    /// The next message. Dropped before it has come, nothing is lost.
    pub(super) async fn next(&mut self) -> std::result::Result<Message, String> {
        loop {
            let mut rest = self.read.get(self.taken..).unwrap_or_default();
            let message = self.chunks.next(&mut rest).map_err(|violation| violation.to_string())?;
            self.taken = self.read.len() - rest.len();
            if let Some(message) = message {
                return Ok(message);
            }
            self.read.clear();
            self.taken = 0;
            let count = self.from.read_buf(&mut self.read).await.map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the server closed the connection".to_owned());
            }
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.sum = self.sum.wrapping_add(count);
            self.unacknowledged = self.unacknowledged.saturating_add(count);
        }
    }
}
