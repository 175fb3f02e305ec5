//! A real S3 server for tests, and a way to it that can be disturbed. Tests of other crates use it, too.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct Server {
    pub endpoint: String,
    pub key: String,
    pub secret: String,
    /// The script's folder, where this process started it.
    folder: Option<PathBuf>,
}

fn script() -> PathBuf {
    // Beside the crate that is tested, whichever it is.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = manifest.ancestors().map(|folder| folder.join("deploy/dev/s3")).find(|script| script.is_file());
    found.expect("deploy/dev/s3 is not in this repository")
}

impl Server {
    /// The one that all tests share: `CREST_TEST_S3`, or one that ends with this process.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("CREST_TEST_S3") {
            Ok(endpoint) if !endpoint.is_empty() => {
                let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} goes with CREST_TEST_S3"));
                Server { endpoint, key: of("CREST_TEST_S3_KEY"), secret: of("CREST_TEST_S3_SECRET"), folder: None }
            }
            _ => Server::start(),
        })
    }

    /// One of its own, which may be stopped.
    pub fn start() -> Server {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("crest-s3-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        let said = Self::run("start", &folder);
        let of = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            line.unwrap_or_else(|| panic!("no {name} in {said}")).to_owned()
        };
        let (endpoint, key, secret) = (of("endpoint"), of("access_key_id"), of("secret_access_key"));
        Server { endpoint, key, secret, folder: Some(folder) }
    }

    /// Stops it; what it stores stays.
    pub fn stop(&self) {
        Self::run("stop", self.folder.as_deref().expect("one of its own"));
    }

    /// Starts it again, at the same address.
    pub fn start_again(&self) {
        Self::run("start", self.folder.as_deref().expect("one of its own"));
    }

    fn run(what: &str, folder: &Path) -> String {
        let mut command = Command::new(script());
        command.arg(what).arg(folder).env("CREST_DEV_WITH_PID", std::process::id().to_string());
        let output = command.output().unwrap();
        assert!(output.status.success(), "s3 {what}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A bucket's folder that nobody else uses.
pub fn own_url() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("s3://crest/test-{}-{now}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They are passed on.
    Open,
    /// Requests are answered with this status and code, as S3 does.
    Says(&'static str, &'static str),
    /// Requests are taken and never answered.
    Silent,
    /// Each is broken off once so many bytes were sent to the server on it.
    Cut(u64),
}

/// Stands in front of a server.
pub struct Proxy {
    pub endpoint: String,
    way: watch::Sender<Way>,
    requests: Arc<AtomicU64>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub async fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let target = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let (way, _) = watch::channel(Way::Open);
        let (requests, seen) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let proxy = Self { endpoint, way: way.clone(), requests: requests.clone(), seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, mut way) = (target.clone(), way.subscribe());
                let (requests, seen) = (requests.clone(), seen.clone());
                tokio::spawn(async move {
                    let mode = *way.borrow_and_update();
                    // A change of the way ends every connection.
                    tokio::select! {
                        _ = way.changed() => {}
                        () = carry(client, &target, mode, &requests, &seen) => {}
                    }
                });
            }
        });
        proxy
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Requests that were not passed on.
    pub fn refused(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// First lines of the requests that were passed on, as far as each began a read from its connection.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn carry(mut client: TcpStream, target: &str, way: Way, refused: &AtomicU64, seen: &Mutex<Vec<String>>) {
    let mut buffer = vec![0; 64 * 1024];
    match way {
        Way::Says(status, code) => {
            // The head at least; a client that still sends is cut off with its answer.
            let Ok(1..) = client.read(&mut buffer).await else { return };
            refused.fetch_add(1, Ordering::SeqCst);
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = client.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = client.shutdown().await;
            while let Ok(1..) = client.read(&mut buffer).await {}
        }
        Way::Silent => {
            let Ok(1..) = client.read(&mut buffer).await else { return };
            refused.fetch_add(1, Ordering::SeqCst);
            while let Ok(1..) = client.read(&mut buffer).await {}
        }
        Way::Open | Way::Cut(_) => {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let mut left = if let Way::Cut(bytes) = way { bytes } else { u64::MAX };
            let up = async {
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    let part = &buffer[..count.min(usize::try_from(left).unwrap_or(usize::MAX))];
                    if let Some(line) = part.split(|b| *b == b'\r').next().filter(|l| l.ends_with(b" HTTP/1.1")) {
                        seen.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
                    }
                    if to_server.write_all(part).await.is_err() {
                        return;
                    }
                    left -= part.len() as u64;
                    if left == 0 {
                        refused.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
            };
            let down = tokio::io::copy(&mut from_server, &mut to_client);
            tokio::select! {
                () = up => {}
                _ = down => {}
            }
        }
    }
}

/// One request without credentials: status and body.
pub async fn plain(method: &str, url: &str) -> (u16, Vec<u8>) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut connection = TcpStream::connect(host).await.unwrap();
    let length = if method == "PUT" { "Content-Length: 4\r\n" } else { "" };
    let body = if method == "PUT" { "evil" } else { "" };
    let request = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{length}Connection: close\r\n\r\n{body}");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer[head + 4..].to_vec())
}
