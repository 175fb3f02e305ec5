//! The handshake (Adobe's RTMP specification 1.0, section 5.2): a version, 1536 bytes each way, and each sent back.

use fastrand::Rng;
use std::io::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::message::Violation;

/// The version of RTMP that there is; encrypted ones were never used.
const VERSION: u8 = 3;
/// How TLS begins.
const TLS: u8 = 0x16;
/// Bytes of C1, S1, C2 and S2.
const LENGTH: usize = 1536;

/// Four bytes of time, four that are zero, and noise, after the version.
fn hello() -> Vec<u8> {
    let mut hello = vec![0; 1 + LENGTH];
    Rng::new().fill(hello.get_mut(9..).unwrap_or_default());
    if let Some(version) = hello.first_mut() {
        *version = VERSION;
    }
    hello
}

/// The server's part. A violation where the peer speaks something else, which is known from its first byte.
pub(crate) async fn accept(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<std::result::Result<(), Violation>> {
    match socket.read_u8().await? {
        VERSION => {}
        TLS => return Ok(Err(Violation::Tls)),
        _ => return Ok(Err(Violation::NotRtmp)),
    }
    let mut theirs = vec![0; LENGTH];
    socket.read_exact(&mut theirs).await?;
    let mut ours = hello();
    ours.extend_from_slice(&theirs);
    socket.write_all(&ours).await?;
    socket.flush().await?;
    // What they send back is not looked at: some send noise.
    socket.read_exact(&mut theirs).await?;
    Ok(Ok(()))
}

/// The client's part; a violation where the server speaks something else.
pub(crate) async fn connect(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<std::result::Result<(), Violation>> {
    socket.write_all(&hello()).await?;
    socket.flush().await?;
    if socket.read_u8().await? != VERSION {
        return Ok(Err(Violation::NotRtmp));
    }
    let mut theirs = vec![0; LENGTH];
    socket.read_exact(&mut theirs).await?;
    // A server that is strict about the order waits for this before it says the rest.
    socket.write_all(&theirs).await?;
    socket.flush().await?;
    socket.read_exact(&mut theirs).await?;
    Ok(Ok(()))
}
