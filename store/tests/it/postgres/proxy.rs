//! Stands between a store and its server, knows where transactions end, and breaks connections there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on, and so is the answer.
    Answered,
    /// The connection breaks before the server has it.
    Lost,
    /// The server has it, and the connection breaks before it answers.
    Unanswered,
    /// Nothing is passed on any more, neither this one nor anything else.
    Silence,
}

#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    fate: Arc<Mutex<Fate>>,
    /// Connections that were broken.
    pub broken: Arc<AtomicU64>,
}

impl Proxy {
    pub async fn before(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Proxy { port, fate: Arc::new(Mutex::new(Fate::Answered)), broken: Arc::default() };
        let passing = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let proxy = passing.clone();
                tokio::spawn(async move { proxy.pass(client, server).await });
            }
        });
        proxy
    }

    pub fn set(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }

    /// The fate of this COMMIT; the ones after it are answered.
    fn take(&self) -> Fate {
        let mut fate = self.fate.lock().unwrap();
        match *fate {
            Fate::Silence => Fate::Silence,
            once => {
                *fate = Fate::Answered;
                once
            }
        }
    }

    async fn unless_silent(&self) {
        let silent = *self.fate.lock().unwrap() == Fate::Silence;
        if silent {
            std::future::pending::<()>().await;
        }
    }

    async fn pass(&self, client: TcpStream, server: TcpStream) {
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, to_server) = server.into_split();
        // Both halves end together, and with them both connections.
        tokio::select! {
            () = self.requests(from_client, to_server) => {}
            () = async { while self.answer(&mut from_server, &mut to_client).await {} } => {}
        }
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    async fn answer(&self, from_server: &mut OwnedReadHalf, to_client: &mut OwnedWriteHalf) -> bool {
        let mut part = vec![0; 8192];
        let Ok(read @ 1..) = from_server.read(&mut part).await else { return false };
        self.unless_silent().await;
        to_client.write_all(&part[..read]).await.is_ok()
    }

    /// Passes on what the client says, message by message.
    async fn requests(&self, mut from_client: OwnedReadHalf, mut to_server: OwnedWriteHalf) {
        let mut first = true;
        while let Some((kind, body)) = message(&mut from_client, first).await {
            first = false;
            let commits = kind == Some(b'Q') && body.starts_with(b"COMMIT");
            let fate = if commits { self.take() } else { Fate::Answered };
            if fate == Fate::Lost {
                return;
            }
            self.unless_silent().await;
            let mut whole = kind.map_or_else(Vec::new, |kind| vec![kind]);
            whole.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            whole.extend(&body);
            if to_server.write_all(&whole).await.is_err() {
                return;
            }
            if fate == Fate::Unanswered {
                // The server ends its transaction, and its answer meets a closed door.
                return;
            }
        }
    }
}

/// A message of the protocol; the first has no kind.
async fn message(from: &mut OwnedReadHalf, first: bool) -> Option<(Option<u8>, Vec<u8>)> {
    let kind = if first { None } else { Some(from.read_u8().await.ok()?) };
    let length = usize::try_from(from.read_u32().await.ok()?).ok()?;
    let mut body = vec![0; length.checked_sub(4)?];
    from.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}
