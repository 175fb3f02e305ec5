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
    /// Parts that the server does not have.
    missing: Vec<usize>,
    looks: AtomicUsize,
    /// Looks that asked to wait, and requests for parts and for whole segments.
    waits: AtomicUsize,
    of_parts: AtomicUsize,
    of_segments: AtomicUsize,
    /// Requests for what is missing.
    in_vain: AtomicUsize,
    /// The furthest part that the server was asked to wait for.
    asked: AtomicUsize,
}

impl Broadcast {
    async fn cut(missing: &[usize]) -> Result<Self> {
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
        let [looks, waits, of_parts, of_segments, in_vain, asked] = [(); 6].map(|()| AtomicUsize::new(0));
        let (there, missing) = (watch::Sender::new(PARTS + 1), missing.to_vec());
        Ok(Self { header, parts, there, missing, looks, waits, of_parts, of_segments, in_vain, asked })
    }

    fn count(&self) -> usize {
        *self.there.borrow()
    }

    /// Answers when so many parts are there, or nothing follows.
    async fn until(&self, parts: usize) {
        let enough = parts.min(self.parts.len());
        let _ = self.there.subscribe().wait_for(|there| *there >= enough).await;
    }

    /// Whether the server does not have all of a segment.
    fn is_incomplete(&self, segment: usize) -> bool {
        self.missing.iter().any(|part| part / PARTS == segment)
    }

    /// Waits until it has been looked at.
    async fn looked_at(&self) -> Result<()> {
        let looked = || async { Ok((self.looks.load(Ordering::Relaxed) > 0).then_some(())) };
        wait_for("the first look", SOON, looked).await
    }

    /// The broadcast goes on, a part at a time, until so many are there.
    async fn publish(&self, to: usize, pace: Duration) {
        while self.count() < to.min(self.parts.len()) {
            tokio::time::sleep(pace).await;
            self.there.send_modify(|there| *there += 1);
        }
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
            let missing = if self.missing.contains(&part) { ",GAP=YES" } else { "" };
            let _ = writeln!(text, "#EXT-X-PART:DURATION=0.5,{file}{missing}");
            if at + 1 == PARTS || part + 1 == self.parts.len() {
                let missing = if self.is_incomplete(segment) { "#EXT-X-GAP\n" } else { "" };
                let _ = writeln!(text, "{missing}#EXTINF:2,\nsegment/{segment}");
            }
        }
        if there == self.parts.len() {
            text.push_str("#EXT-X-ENDLIST\n");
        } else if (there / PARTS).is_multiple_of(2) && !self.missing.contains(&there) {
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
    if it.missing.contains(&part) {
        it.in_vain.fetch_add(1, Ordering::Relaxed);
        return StatusCode::NOT_FOUND.into_response();
    }
    it.until(part + 1).await;
    it.parts.get(part).cloned().map_or(StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

async fn segment(State(it): State<Arc<Broadcast>>, Path(segment): Path<usize>, headers: HeaderMap) -> Response {
    if it.is_incomplete(segment) {
        it.in_vain.fetch_add(1, Ordering::Relaxed);
        return StatusCode::NOT_FOUND.into_response();
    }
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
        let broadcast = Arc::new(Broadcast::cut(&[]).await?);
        let (server, url) = serve(Arc::clone(&broadcast)).await?;
        let stage = Stage::set(&[]).await?;
        let stream = stage.pull(&url).await?;
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        broadcast.looked_at().await?;
        // All of three segments and three parts of the fourth, which is not finished.
        broadcast.publish(3 * PARTS + 3, PART).await;
        stage.stored(&stream, 6.5).await?;
        ensure!(load(&broadcast.of_parts) >= 2 * PARTS, "parts are taken: {}", load(&broadcast.of_parts));
        ensure!(load(&broadcast.of_segments) <= 3, "segments are taken: {}", load(&broadcast.of_segments));
        ensure!(load(&broadcast.waits) >= 2 * PARTS, "the server is asked to wait: {}", load(&broadcast.waits));
        // It ends at once where one part of its last segment was taken.
        let last = (broadcast.parts.len() - 1) / PARTS * PARTS;
        broadcast.publish(last + 1, PART).await;
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

/// Where nothing is for longer than a few frames: from when to when, in seconds after the first.
fn holes(times: &[f64]) -> Vec<(f64, f64)> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let since = |at: f64| at - times[0];
    times.windows(2).filter(|two| two[1] - two[0] > 0.2).map(|two| (since(two[0]), since(two[1]))).collect()
}

#[test]
fn a_part_that_the_server_does_not_have_is_left_out_alone() -> Result<()> {
    run(async {
        // Three in a row from the beginning of a segment, whose last part is there, and one within another.
        let broadcast = Arc::new(Broadcast::cut(&[8, 9, 10, 17]).await?);
        let (server, url) = serve(Arc::clone(&broadcast)).await?;
        let stage = Stage::set(&[]).await?;
        let stream = stage.pull(&url).await?;
        broadcast.looked_at().await?;
        broadcast.publish(broadcast.parts.len(), PART / 4).await;
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!((&shown["state_reason"], &shown["session"]), (&"the broadcast is over".into(), &1.into()));
        assert_eq!(broadcast.in_vain.load(Ordering::Relaxed), 0, "what is missing is not asked for");
        assert_eq!(stage.api.counter("crest_pull_segments_lost_total").await?, 0.0, "it is no failure");
        // What is there lies where it was, picture and sound.
        for track in ["v", "a"] {
            let times = stage.times(&stream, track).await?;
            let (found, length) = (holes(&times), span(&times));
            ensure!((length - LENGTH).abs() < 0.3, "{track}: {length} s");
            let near =
                |(from, to): (f64, f64), hole: (f64, f64)| (from - hole.0).abs() < 0.15 && (to - hole.1).abs() < 0.15;
            ensure!(found.len() == 2 && near(found[0], (4.0, 5.5)) && near(found[1], (8.5, 9.0)), "{track}: {found:?}");
        }
        server.abort();
        Ok(())
    })
}
