//! One playlist of pieces: which comes next, what is in it, when the playlist is read again.

use bytes::Bytes;
use crest_core::codec::MediaEvent;
use crest_core::{MediaTime, WallTime};
use crest_media::{Container, Demuxer};
use reqwest::Url;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

use super::super::Trouble;
use super::super::http::{Body, Range};
use super::super::source::Sources;
use super::ads::Cue;
use super::playlist::{Listing, Media, Piece, parse};

/// Tries at a playlist or a piece before something is made of its failure.
const TRIES: u32 = 3;
/// Pieces that fail one after the other before the source is taken for broken.
const LOST: u32 = 3;
/// A live playlist that does not go on for so many of its longest pieces is taken for dead.
const STALLED: u32 = 6;
const STALLED_AT_LEAST: Duration = Duration::from_secs(30);
/// The shortest time between two looks at a playlist.
const RELOAD: Duration = Duration::from_millis(250);

/// When something is decoded: discontinuities before it, and the time on the clock that holds since the last.
pub(super) type At = (u64, MediaTime);

/// An event on its way out.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) event: MediaEvent,
    /// When the piece that it is the first of was recorded.
    pub(super) recorded_at: Option<WallTime>,
    at: At,
}

/// What [`Track::advance`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something of a piece was read.
    Read,
    /// The playlist was looked at again.
    Reload,
    /// Nothing will follow.
    Over,
}

/// A playlist that is followed.
pub(super) struct Track<'a> {
    sources: &'a Sources,
    url: Url,
    /// Pieces that are listed and were not read.
    listed: VecDeque<Piece>,
    /// The sequence number that comes next.
    next: Option<u64>,
    target: Duration,
    /// Nothing will be listed any more.
    complete: bool,
    recorded: bool,
    over: bool,
    /// When the playlist may be looked at again.
    reload: Instant,
    /// When a piece was listed last.
    news: Instant,
    failures: u32,
    lost: u32,
    /// Whether an advertisement that was announced between pieces goes on.
    in_ad: bool,
    open: Option<Open>,
    demuxer: Option<Demuxer>,
    /// Which audio track of the pieces is taken.
    audio: Option<u8>,
    map: Option<(Url, Option<Range>)>,
    discontinuities: u64,
    head: Option<At>,
    ready: VecDeque<Item>,
}

/// The piece that is being read.
struct Open {
    body: Body,
    recorded_at: Option<WallTime>,
}

impl<'a> Track<'a> {
    /// Begins where an earlier pull broke off, where that is still listed; else near the end of what is live,
    /// and at the beginning of a recording.
    pub(super) fn new(sources: &'a Sources, url: Url, media: Media, audio: Option<u8>, reached: Option<u64>) -> Self {
        let (first, last) = (media.pieces.first().map(|p| p.sequence), media.pieces.last().map(|p| p.sequence));
        let goes_on = reached.filter(|next| first <= Some(*next) && last.is_some_and(|last| *next <= last + 1));
        let start = goes_on.or_else(|| {
            let live = media.pieces.len().saturating_sub(sources.config.live_segments.max(1));
            media.pieces.get(if media.recorded { 0 } else { live }).map(|piece| piece.sequence)
        });
        let now = Instant::now();
        let mut this = Self {
            sources,
            url,
            listed: VecDeque::new(),
            next: start,
            target: media.target,
            complete: false,
            recorded: media.recorded,
            over: false,
            reload: now,
            news: now,
            failures: 0,
            lost: 0,
            in_ad: false,
            open: None,
            demuxer: None,
            audio,
            map: None,
            discontinuities: 0,
            head: None,
            ready: VecDeque::new(),
        };
        this.list(media);
        this
    }

    pub(super) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// Whether all of it was read.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The piece that comes next.
    pub(super) fn reached(&self) -> Option<u64> {
        self.next
    }

    /// How far it was read; `None`, before everything, at the beginning.
    pub(super) fn head(&self) -> Option<At> {
        self.head
    }

    /// When the first event that is ready is decoded.
    pub(super) fn first(&self) -> Option<At> {
        self.ready.front().map(|item| item.at)
    }

    /// The first event that is ready.
    pub(super) fn take(&mut self) -> Option<Item> {
        self.ready.pop_front()
    }

    /// Reads on: a part of a piece, the next piece, or the playlist once more.
    pub(super) async fn advance(&mut self) -> Result<Step, Trouble> {
        if let Some(open) = &mut self.open {
            match open.body.next().await {
                Ok(Some(chunk)) => self.push(chunk)?,
                Ok(None) => {
                    self.open = None;
                    self.lost = 0;
                }
                Err(trouble) => {
                    self.open = None;
                    self.lose(trouble)?;
                }
            }
            return Ok(Step::Read);
        }
        if let Some(piece) = self.listed.pop_front() {
            self.next = Some(piece.sequence + 1);
            self.begin(piece).await?;
            return Ok(Step::Read);
        }
        if self.complete {
            self.finish();
            self.over = true;
            return Ok(Step::Over);
        }
        self.look().await?;
        Ok(Step::Reload)
    }

    /// Opens a piece, unless it is an advertisement.
    async fn begin(&mut self, piece: Piece) -> Result<(), Trouble> {
        if let Some(method) = &piece.encrypted {
            return Err(Trouble::Final(format!(
                "the media are encrypted ({method}), which this version does not read"
            )));
        }
        match piece.cue {
            Some(Cue::Out) => self.in_ad = true,
            Some(Cue::In) => self.in_ad = false,
            None => {}
        }
        if piece.discontinuity {
            self.finish();
            self.discontinuities += 1;
        }
        if piece.ad || self.in_ad {
            metrics::counter!("crest_pull_ad_segments_total").increment(1);
            // What comes after it goes on from before it.
            self.finish();
            return Ok(());
        }
        if piece.map != self.map {
            self.finish();
            self.map.clone_from(&piece.map);
        }
        if self.demuxer.is_none()
            && let Some((url, range)) = self.map.clone()
        {
            let mut demuxer = demuxer(Container::FragmentedMp4, self.audio)?;
            let mut body = self.opened(&url, range).await?;
            while let Some(chunk) = body.next().await? {
                demuxer.push(chunk).map_err(|error| Trouble::Passing(error.message))?;
            }
            self.demuxer = Some(demuxer);
        }
        match self.opened(&piece.url, piece.range).await {
            Ok(body) => self.open = Some(Open { body, recorded_at: piece.at }),
            Err(trouble) => self.lose(trouble)?,
        }
        Ok(())
    }

    async fn opened(&self, url: &Url, range: Option<Range>) -> Result<Body, Trouble> {
        let mut tries = 1;
        loop {
            match self.sources.http.open(url, range).await {
                Err(Trouble::Passing(_)) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(RELOAD).await;
                }
                done => return done,
            }
        }
    }

    /// A piece that cannot be had is a gap; several in a row are the end.
    fn lose(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.lost += 1;
        metrics::counter!("crest_pull_segments_lost_total").increment(1);
        if self.lost >= LOST || matches!(trouble, Trouble::Final(_)) {
            return Err(trouble);
        }
        let (Trouble::Passing(reason) | Trouble::Final(reason)) = trouble;
        tracing::warn!(reason, "a segment is left out");
        self.finish();
        Ok(())
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), Trouble> {
        let demuxer = match &mut self.demuxer {
            Some(demuxer) => demuxer,
            None => {
                let Some(container) = container(&chunk) else {
                    self.open = None;
                    return self.lose(Trouble::Passing("a segment is no media that is read".to_owned()));
                };
                self.demuxer.insert(demuxer(container, self.audio)?)
            }
        };
        match demuxer.push(chunk) {
            Ok(events) => self.collect(events),
            Err(error) => {
                self.open = None;
                self.demuxer = None;
                self.lose(Trouble::Passing(format!("a segment cannot be read: {}", error.message)))?;
            }
        }
        Ok(())
    }

    /// What the demultiplexer holds back comes out; the next piece begins with another.
    fn finish(&mut self) {
        if let Some(mut demuxer) = self.demuxer.take() {
            match demuxer.finish() {
                Ok(events) => self.collect(events),
                Err(error) => tracing::debug!(%error, "the end of a segment cannot be read"),
            }
            for note in demuxer.notes() {
                tracing::info!(note, "something of a pulled feed is left out");
            }
        }
    }

    fn collect(&mut self, events: Vec<MediaEvent>) {
        for event in events {
            let at = match &event {
                MediaEvent::Video(packet) | MediaEvent::Audio(packet) => (self.discontinuities, packet.dts),
                _ => self.head.unwrap_or_default(),
            };
            self.head = self.head.max(Some(at));
            let recorded_at = self.open.as_mut().and_then(|open| open.recorded_at.take());
            self.ready.push_back(Item { event, recorded_at, at });
        }
    }

    /// Looks at the playlist again, when it is time.
    async fn look(&mut self) -> Result<(), Trouble> {
        tokio::time::sleep_until(self.reload).await;
        let read = async {
            let (at, text) = self.sources.http.playlist(&self.url).await?;
            match parse(&text, &at, self.sources.config.max_height, None) {
                Ok(Listing::Media(media)) => Ok(media),
                Ok(Listing::Master(_)) => Err(Trouble::Passing("the playlist names no media any more".to_owned())),
                Err(reason) => Err(Trouble::Passing(reason)),
            }
        };
        match read.await {
            Ok(media) => {
                self.failures = 0;
                self.list(media);
            }
            Err(Trouble::Passing(_)) if self.failures + 1 < TRIES => {
                self.failures += 1;
                self.reload = Instant::now() + (self.target / 2).max(RELOAD);
            }
            Err(trouble) => return Err(trouble),
        }
        let stalled = (self.target * STALLED).max(STALLED_AT_LEAST);
        if !self.complete && self.news.elapsed() > stalled {
            let seconds = stalled.as_secs();
            return Err(Trouble::Passing(format!("the playlist has not gone on for {seconds} s")));
        }
        Ok(())
    }

    /// Takes note of what is new in the playlist.
    fn list(&mut self, media: Media) {
        let known = self.listed.back().map(|piece| piece.sequence + 1).or(self.next);
        // A server that began anew counts from the beginning; one that is a little behind is another copy of it.
        let window = media.pieces.len() as u64 + 1;
        let anew = known.is_some_and(|known| media.pieces.last().is_some_and(|last| last.sequence + window < known));
        let new = |piece: &Piece| anew || known.is_none_or(|known| piece.sequence >= known);
        let before = self.listed.len();
        self.listed.extend(media.pieces.into_iter().filter(new));
        if anew && let Some(first) = self.listed.get_mut(before) {
            first.discontinuity = true;
        }
        let now = Instant::now();
        let has_news = self.listed.len() > before;
        if has_news {
            self.news = now;
        }
        self.target = media.target;
        self.complete = media.over;
        // RFC 8216 6.3.4: a target duration after a look that brought something, half of one after others.
        let pause = if has_news { self.target } else { self.target / 2 };
        self.reload = now + pause.max(RELOAD);
    }
}

fn demuxer(container: Container, audio: Option<u8>) -> Result<Demuxer, Trouble> {
    let mut demuxer = Demuxer::new(container).map_err(|error| Trouble::Final(error.message))?;
    demuxer.choose_audio(audio);
    Ok(demuxer)
}

/// What a segment without an initialisation of its own is, by its first bytes.
pub(crate) fn container(head: &[u8]) -> Option<Container> {
    match head {
        [0x47, ..] => Some(Container::MpegTs),
        [b'I', b'D', b'3', ..] | [0xff, 0xf0..=0xff, ..] => Some(Container::Adts),
        [_, _, _, _, kind @ ..]
            if [b"ftyp", b"styp", b"moof", b"sidx", b"emsg"].iter().any(|k| kind.starts_with(&k[..])) =>
        {
            Some(Container::FragmentedMp4)
        }
        _ => None,
    }
}
