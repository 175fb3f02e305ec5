//! A way over the network that a test can cut and block.

use anyhow::{Context, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::free_listener;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They are passed on.
    Open,
    /// They stay, and so does what is sent on them; new ones are taken.
    Hanging,
    /// They are broken off, and new ones are refused.
    Cut,
}

/// The way now, and how often it was cut: a cut that is healed at once breaks connections off all the same.
#[derive(Debug, Clone, Copy)]
struct State {
    way: Way,
    cuts: u32,
}

/// Stands on a port of this machine in front of something else.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    target: Arc<Mutex<String>>,
    way: watch::Sender<State>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// In front of `target`, `host:port`.
    pub async fn to(target: &str) -> Result<Self> {
        let proxy = Self::new().await?;
        proxy.lead_to(target);
        Ok(proxy)
    }

    /// In front of nothing yet: connections wait. A broker that is to advertise the proxy needs its port first.
    pub async fn new() -> Result<Self> {
        let listener = free_listener()?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (way, seen) = watch::channel(State { way: Way::Open, cuts: 0 });
        let target = Arc::new(Mutex::new(String::new()));
        let serving = tokio::spawn(serve(listener, port, Arc::clone(&target), seen));
        Ok(Self { port, target, way, serving })
    }

    /// New connections go there.
    pub fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Breaks off every connection and refuses new ones.
    pub fn cut(&self) {
        self.way.send_modify(|state| *state = State { way: Way::Cut, cuts: state.cuts + 1 });
    }

    /// Holds back every byte in both directions; nobody is told.
    pub fn hang(&self) {
        self.way.send_modify(|state| state.way = Way::Hanging);
    }

    /// As before; what was held back arrives.
    pub fn heal(&self) {
        self.way.send_modify(|state| state.way = Way::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, port: u16, target: Arc<Mutex<String>>, mut way: watch::Receiver<State>) {
    let mut listener = Some(listener);
    loop {
        let now = way.borrow_and_update().way;
        match &listener {
            Some(_) if now == Way::Cut => listener = None,
            Some(open) => {
                tokio::select! {
                    changed = way.changed() => if changed.is_err() { return },
                    Ok((client, _)) = open.accept() => {
                        tokio::spawn(carry(client, Arc::clone(&target), way.clone()));
                    }
                }
            }
            None if now == Way::Cut => {
                if way.changed().await.is_err() {
                    return;
                }
            }
            None => match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(again) => listener = Some(again),
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

/// One connection, until either side ends it or the way is cut.
async fn carry(client: TcpStream, target: Arc<Mutex<String>>, mut way: watch::Receiver<State>) {
    let cuts = way.borrow_and_update().cuts;
    let cut = {
        let mut way = way.clone();
        async move { way.wait_for(|state| state.cuts != cuts).await.map(drop) }
    };
    let passed = async {
        let address = loop {
            open(&mut way).await;
            let address = target.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if !address.is_empty() {
                break address;
            }
            sleep(Duration::from_millis(20)).await;
        };
        let server = TcpStream::connect(&address).await.context("the target refuses")?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(pump(from_client, to_server, way.clone()), pump(from_server, to_client, way.clone()));
        Ok::<_, anyhow::Error>(())
    };
    tokio::select! {
        _ = cut => {}
        _ = passed => {}
    }
}

/// Passes bytes on whenever the way is open, and the end as well.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<State>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        open(&mut way).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    open(&mut way).await;
    let _ = to.shutdown().await;
}

/// Waits until the way is open; where the proxy is gone, for good: its connections are cut anyway.
async fn open(way: &mut watch::Receiver<State>) {
    if way.wait_for(|state| state.way == Way::Open).await.is_err() {
        std::future::pending::<()>().await;
    }
}
