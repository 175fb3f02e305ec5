//! Where feeds are pulled from: a server that can be told to fail, and the media that it has.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, LOCATION, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::harness::succeed;

/// Seconds of the source file.
pub const LENGTH: f64 = 12.0;

/// Twelve seconds, a keyframe each second, with frames that are decoded before others that are shown earlier.
pub async fn source() -> Result<&'static Path> {
    static SOURCE: OnceCell<PathBuf> = OnceCell::const_new();
    let made = SOURCE.get_or_try_init(|| async {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join(format!("pulled-{}.mp4", std::process::id()));
        encode(&path, "320x180", LENGTH).await?;
        anyhow::Ok(path)
    });
    made.await.map(PathBuf::as_path)
}

/// Makes a file of this size.
pub async fn encode(path: &Path, size: &str, seconds: f64) -> Result<()> {
    let picture = format!("testsrc2=size={size}:rate=30:duration={seconds}");
    let sound = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let to = path.to_str().context("a path that is no text")?;
    let args = [
        "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound, "-c:v", "libx264",
        "-preset", "veryfast", "-g", "30", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac", to,
    ];
    succeed("ffmpeg", args).await.map(drop)
}

/// Cuts the source into HLS; `options` say how.
pub async fn cut(source: &Path, playlist: &Path, options: &[&str]) -> Result<()> {
    let (from, to) = (source.to_str().context("no text")?, playlist.to_str().context("no text")?);
    let mut args = vec!["-nostdin", "-v", "error", "-i", from, "-c", "copy", "-f", "hls", "-hls_time", "2"];
    args.extend(["-hls_list_size", "0"]);
    args.extend(options);
    args.push(to);
    succeed("ffmpeg", args).await.map(drop)
}

/// What it answers whatever is asked, where it is not to serve its files.
#[derive(Debug, Clone)]
pub enum Mood {
    Serves,
    Fails(StatusCode),
    RedirectsForEver,
    RedirectsTo(String),
    /// A page, whatever is asked for.
    Excuses,
    /// It has a file, and sends it byte by byte.
    Drips,
}

/// A server over a folder. Dropping it stops it.
pub struct Origin {
    pub folder: TempDir,
    pub address: String,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// What its answers are made of.
#[derive(Clone)]
struct Answering {
    folder: PathBuf,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mood = Arc::new(Mutex::new(Mood::Serves));
        let asked = Arc::default();
        let answering =
            Answering { folder: folder.path().to_owned(), mood: Arc::clone(&mood), asked: Arc::clone(&asked) };
        let router = Router::new().fallback(answer).with_state(answering);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { folder, address, mood, asked, task })
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// The path of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.path(name), text)?)
    }
}

async fn answer(State(Answering { folder, mood, asked }): State<Answering>, request: Request) -> Response {
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.uri().path().to_owned());
    let mood = mood.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match mood {
        Mood::Fails(status) => status.into_response(),
        Mood::RedirectsTo(url) => (StatusCode::FOUND, [(LOCATION, url)]).into_response(),
        Mood::RedirectsForEver => {
            (StatusCode::FOUND, [(LOCATION, format!("{}x", request.uri().path()))]).into_response()
        }
        Mood::Excuses => "<html><body>back in a minute</body></html>".into_response(),
        Mood::Drips => {
            let bytes = futures::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((Ok::<_, std::io::Error>("x"), ()))
            });
            ([(CONTENT_LENGTH, 1_000_000)], Body::from_stream(bytes)).into_response()
        }
        Mood::Serves => match tokio::fs::read(folder.join(request.uri().path().trim_start_matches('/'))).await {
            Ok(body) => match part(request.headers(), body.len()) {
                Some(part) => (StatusCode::PARTIAL_CONTENT, body[part].to_vec()).into_response(),
                None => body.into_response(),
            },
            Err(_) => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

/// The part that is asked for, `bytes=FIRST-LAST`.
pub fn part(headers: &HeaderMap, length: usize) -> Option<std::ops::Range<usize>> {
    let (first, last) = headers.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
    Some(first.min(length)..(last + 1).min(length))
}
