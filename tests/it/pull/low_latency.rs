//! Low-latency HLS. No packager for it is at hand: a server of the test speaks what draft-pantos-hls-rfc8216bis
//! documents, over fragments that ffmpeg cut.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::RANGE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::origin::{self, LENGTH};
use super::stage::{SOON, Stage};
use crate::harness::{run, succeed, wait_for};
use crate::stored::span;

/// Parts of a segment, and how long one is, about.
const PARTS: usize = 4;
const PART: Duration = Duration::from_millis(500);

/// A broadcast, of which as many parts are there as the test says.
struct Broadcast {
    header: Vec<u8>,
    parts: Vec<Vec<u8>>,
    there: watch::Sender<usize>,
    looks: AtomicUsize,
    /// Looks that asked to wait, and requests for parts and for whole segments.
    waits: AtomicUsize,
    of_parts: AtomicUsize,
    of_segments: AtomicUsize,
    /// The furthest part that the server was asked to wait for.
    asked: AtomicUsize,
}

impl Broadcast {
    async fn cut() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("fragments.mp4");
        let (from, to) = (origin::source().await?.to_str().context("no text")?, file.to_str().context("no text")?);
        let flags = ["-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "500000"];
        let args = ["-nostdin", "-v", "error", "-i", from, "-c", "copy", "-f", "mp4"];
        succeed("ffmpeg", args.into_iter().chain(flags).chain([to])).await?;
        let (bytes, mut at, mut header, mut parts) = (std::fs::read(&file)?, 0, Vec::new(), Vec::<Vec<u8>>::new());
        while at < bytes.len() {
            let size = u32::from_be_bytes(bytes[at..at + 4].try_into()?) as usize;
            let whole = &bytes[at..at + size];
            match &whole[4..8] {
                b"moof" => parts.push(whole.to_vec()),
                b"mdat" => parts.last_mut().context("no fragment")?.extend_from_slice(whole),
                b"mfra" => {}
                _ => header.extend_from_slice(whole),
            }
            at += size;
        }
        // The last segment has more than one part, so that it can end when some of it was taken.
        while parts.len() % PARTS == 1 {
            let rest = parts.pop().context("no fragment")?;
            parts.last_mut().context("one fragment")?.extend(rest);
        }
        let [looks, waits, of_parts, of_segments, asked] = [(); 5].map(|()| AtomicUsize::new(0));
        Ok(Self { header, parts, there: watch::Sender::new(PARTS + 1), looks, waits, of_parts, of_segments, asked })
    }

    fn count(&self) -> usize {
        *self.there.borrow()
    }

    /// Answers when so many parts are there, or nothing follows.
    async fn until(&self, parts: usize) {
        let enough = parts.min(self.parts.len());
        let _ = self.there.subscribe().wait_for(|there| *there >= enough).await;
    }

    /// Odd segments are one file that grows, the others have a file for each part.
    fn playlist(&self) -> String {
        let there = self.count();
        let mut text = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n#EXT-X-PART-INF:PART-TARGET=0.55\n\
             #EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-MAP:URI=\"init\"\n"
            .to_owned();
        for part in 0..there {
            let (segment, at) = (part / PARTS, part % PARTS);
            let file = if segment.is_multiple_of(2) {
                format!("URI=\"part/{part}\"")
            } else {
                let start = if at == 0 { "@0" } else { "" };
                format!("URI=\"segment/{segment}\",BYTERANGE=\"{}{start}\"", self.parts[part].len())
            };
            let _ = writeln!(text, "#EXT-X-PART:DURATION=0.5,{file}");
            if at + 1 == PARTS || part + 1 == self.parts.len() {
                let _ = writeln!(text, "#EXTINF:2,\nsegment/{segment}");
            }
        }
        if there == self.parts.len() {
            text.push_str("#EXT-X-ENDLIST\n");
        } else if (there / PARTS).is_multiple_of(2) {
            let _ = writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part/{there}\"");
        }
        text
    }
}

async fn playlist(State(it): State<Arc<Broadcast>>, Query(query): Query<HashMap<String, usize>>) -> String {
    it.looks.fetch_add(1, Ordering::Relaxed);
    if let Some(segment) = query.get("_HLS_msn") {
        it.waits.fetch_add(1, Ordering::Relaxed);
        let part = segment * PARTS + query.get("_HLS_part").map_or(PARTS, |part| part + 1);
        it.asked.fetch_max(part, Ordering::Relaxed);
        it.until(part).await;
    }
    it.playlist()
}

async fn part(State(it): State<Arc<Broadcast>>, Path(part): Path<usize>) -> Response {
    it.of_parts.fetch_add(1, Ordering::Relaxed);
    it.until(part + 1).await;
    it.parts.get(part).cloned().map_or(StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

async fn segment(State(it): State<Arc<Broadcast>>, Path(segment): Path<usize>, headers: HeaderMap) -> Response {
    let there = it.count().min((segment + 1) * PARTS);
    let body = it.parts.get(segment * PARTS..there).unwrap_or_default().concat();
    match origin::part(&headers, body.len()) {
        Some(range) => {
            it.of_parts.fetch_add(1, Ordering::Relaxed);
            (StatusCode::PARTIAL_CONTENT, body[range].to_vec()).into_response()
        }
        None if headers.contains_key(RANGE) || body.is_empty() => StatusCode::NOT_FOUND.into_response(),
        None => {
            it.of_segments.fetch_add(1, Ordering::Relaxed);
            body.into_response()
        }
    }
}

async fn serve(broadcast: Arc<Broadcast>) -> Result<(JoinHandle<()>, String)> {
    let router = Router::new()
        .route("/live.m3u8", axum::routing::get(playlist))
        .route("/init", axum::routing::get(async |State(it): State<Arc<Broadcast>>| it.header.clone()))
        .route("/part/{part}", axum::routing::get(part))
        .route("/segment/{segment}", axum::routing::get(segment))
        .with_state(broadcast);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/live.m3u8", listener.local_addr()?);
    let served = async move { axum::serve(listener, router).await.unwrap_or_default() };
    Ok((tokio::spawn(served), url))
}

#[test]
fn a_segment_is_stored_while_it_is_being_made() -> Result<()> {
    run(async {
        let broadcast = Arc::new(Broadcast::cut().await?);
        let (server, url) = serve(Arc::clone(&broadcast)).await?;
        let stage = Stage::set(&[]).await?;
        let stream = stage.pull(&url).await?;
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let looked = || async { Ok((load(&broadcast.looks) > 0).then_some(())) };
        wait_for("the first look", SOON, looked).await?;
        let publish = async |to: usize| {
            while broadcast.count() < to.min(broadcast.parts.len()) {
                tokio::time::sleep(PART).await;
                broadcast.there.send_modify(|there| *there += 1);
            }
        };
        // All of three segments and three parts of the fourth, which is not finished.
        publish(3 * PARTS + 3).await;
        stage.stored(&stream, 6.5).await?;
        ensure!(load(&broadcast.of_parts) >= 2 * PARTS, "parts are taken: {}", load(&broadcast.of_parts));
        ensure!(load(&broadcast.of_segments) <= 3, "segments are taken: {}", load(&broadcast.of_segments));
        ensure!(load(&broadcast.waits) >= 2 * PARTS, "the server is asked to wait: {}", load(&broadcast.waits));
        // It ends at once where one part of its last segment was taken.
        let last = (broadcast.parts.len() - 1) / PARTS * PARTS;
        publish(last + 1).await;
        let taken = || async { Ok((load(&broadcast.asked) >= last + 2).then_some(())) };
        wait_for("the first part of the last segment to be taken", SOON, taken).await?;
        broadcast.there.send_replace(broadcast.parts.len());
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!((&shown["state_reason"], &shown["session"]), (&"the broadcast is over".into(), &1.into()));
        // A look for each part, some that were given up while the broadcast stood still, and no more.
        ensure!(load(&broadcast.looks) < 2 * broadcast.parts.len() + 10, "{} looks", load(&broadcast.looks));
        let (video, audio) = (stage.times(&stream, "v").await?, stage.times(&stream, "a").await?);
        assert_eq!(video.len(), (LENGTH * 30.0) as usize, "every frame, to the last");
        ensure!(span(&audio) > LENGTH - 0.5, "{} s of sound", span(&audio));
        let distinct: std::collections::BTreeSet<_> = video.iter().map(|at| (at * 1000.0).round() as i64).collect();
        assert_eq!(distinct.len(), video.len(), "no frame is stored twice");
        server.abort();
        Ok(())
    })
}
