//! One playlist of pieces: they are fetched and taken apart one after the other.

use bytes::Bytes;
use crest_core::codec::MediaEvent;
use crest_core::{MediaTime, WallTime};
use crest_media::{Container, Demuxer};
use reqwest::Url;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

use super::super::Trouble;
use super::super::source::Sources;
use super::Listed;
use super::ads::Break;
use super::ahead::Ahead;
use super::key::{Clear, Encryption, Keys};
use super::parts::waiting;
use super::playlist::{Listing, Map, Media, Piece, parse};
use super::upcoming::{Pick, Upcoming};

/// Tries at a playlist or a piece before something is made of its failure.
pub(super) const TRIES: u32 = 3;
/// Pieces that fail one after the other before the source is taken for broken.
const LOST: u32 = 3;

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

/// A playlist that is followed.
pub(super) struct Track<'a> {
    sources: &'a Sources,
    url: Url,
    upcoming: Upcoming,
    recorded: bool,
    over: bool,
    lost: u32,
    /// The piece that was begun last.
    entered: Option<u64>,
    /// Whether an advertisement that was announced between pieces goes on.
    in_ad: bool,
    /// What is left of it behind the piece that was entered last.
    break_left: Option<f64>,
    open: Option<Open>,
    ahead: Ahead<'a>,
    keys: Keys,
    demuxer: Option<Demuxer>,
    /// Which audio track of the pieces is taken, where that was chosen.
    audio: Option<u8>,
    map: Option<Map>,
    /// Discontinuities are counted from where this begins, not from what the playlist says.
    alike: bool,
    /// Discontinuities of the broadcast so far.
    timeline: Option<u64>,
    head: Option<At>,
    ready: VecDeque<Item>,
}

/// The piece, or the part of one, that is being read.
struct Open {
    clear: Clear,
    encryption: Option<Encryption>,
    recorded_at: Option<WallTime>,
}

impl<'a> Track<'a> {
    /// Begins where an earlier pull broke off, where that is still listed.
    pub(super) fn new(sources: &'a Sources, listed: Listed, reached: Option<u64>, alike: bool) -> Self {
        let Listed { url, media, audio } = listed;
        Self {
            sources,
            url,
            recorded: media.over,
            upcoming: Upcoming::new(media, reached, sources.config.live_segments, Instant::now()),
            over: false,
            lost: 0,
            entered: None,
            in_ad: false,
            break_left: None,
            open: None,
            ahead: Ahead::default(),
            keys: Keys::default(),
            demuxer: None,
            audio,
            map: None,
            alike,
            timeline: None,
            head: None,
            ready: VecDeque::new(),
        }
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
        self.upcoming.reached()
    }

    /// Where this goes on in a playlist of the same broadcast at another address, if it does.
    pub(super) fn place_in(&self, media: &Media) -> Option<u64> {
        self.upcoming.place_in(media)
    }

    /// Goes on there, without a break.
    pub(super) fn go_over(&mut self, url: Url, media: Media, place: u64) {
        (self.url, self.ahead) = (url, Ahead::default());
        self.upcoming.go_over(media, place, Instant::now());
    }

    /// How far it was read; `None`, before everything, at the beginning.
    pub(super) fn head(&self) -> Option<At> {
        self.head
    }

    /// No piece lasts longer.
    pub(super) fn target(&self) -> Duration {
        self.upcoming.target()
    }

    /// What was and is read belongs to this timeline.
    pub(super) fn take_timeline(&mut self, timeline: u64) {
        self.timeline = Some(timeline);
        self.ready.iter_mut().for_each(|item| item.at.0 = timeline);
        self.head = self.head.map(|(_, at)| (timeline, at));
    }

    /// When the first event that is ready is decoded.
    pub(super) fn first(&self) -> Option<At> {
        self.ready.front().map(|item| item.at)
    }

    /// The first event that is ready.
    pub(super) fn take(&mut self) -> Option<Item> {
        self.ready.pop_front()
    }

    /// Reads on: some bytes of a piece, the next piece, or the playlist once more.
    pub(super) async fn advance(&mut self) -> Result<(), Trouble> {
        if let Some(open) = &mut self.open {
            match open.clear.next().await {
                Ok(Some(chunk)) => self.push(chunk)?,
                Ok(None) => {
                    self.open = None;
                    self.lost = 0;
                }
                Err(trouble) => {
                    self.keys.forget(open.encryption.as_ref());
                    self.open = None;
                    self.lose(trouble)?;
                }
            }
            return Ok(());
        }
        if let Some(pick) = self.upcoming.pick() {
            return self.begin(pick).await;
        }
        if self.upcoming.is_complete() {
            self.finish();
            self.over = true;
            return Ok(());
        }
        self.look().await
    }

    /// Opens a piece, or a part of one, unless it is an advertisement.
    async fn begin(&mut self, pick: Pick) -> Result<(), Trouble> {
        let Pick { piece, at, first, part, missing, recorded_at } = pick;
        if first {
            // What the last piece holds back is not to be taken for the beginning of one that is not the next.
            if self.entered.is_some_and(|entered| entered + 1 != piece.sequence) {
                self.finish();
            }
            self.entered = Some(piece.sequence);
            self.enter(&piece);
        }
        if piece.ad || self.in_ad {
            metrics::counter!("crest_pull_ad_segments_total").increment(u64::from(first));
            // What comes after it goes on from before it.
            self.finish();
            self.upcoming.skip();
            // Nothing was waited for, and a playlist may list any number of these.
            tokio::task::yield_now().await;
            return Ok(());
        }
        if missing {
            // What follows a part that is missing is of the same piece: its header and its tables hold.
            if !part {
                self.finish();
            }
            tokio::task::yield_now().await;
            return Ok(());
        }
        if piece.map != self.map {
            self.finish();
            self.map.clone_from(&piece.map);
        }
        if self.demuxer.is_none()
            && let Some(map) = self.map.clone()
        {
            self.demuxer = Some(self.initialised(&map, piece.sequence).await?);
        }
        let sources = self.sources;
        let decrypter = match self.keys.of(&sources.http, piece.encryption.as_ref(), piece.sequence).await {
            Ok(decrypter) => decrypter,
            Err(trouble) => return self.lose(trouble),
        };
        match self.ahead.open(sources, &at).await {
            Ok(body) => {
                let clear = Clear::new(body, decrypter);
                self.open = Some(Open { clear, encryption: piece.encryption, recorded_at });
            }
            Err(trouble) => self.lose(trouble)?,
        }
        Ok(())
    }

    /// Takes note of what holds from the beginning of a piece on.
    fn enter(&mut self, piece: &Piece) {
        // Cues that were listed and are not any more hold on.
        let left = piece.break_left.or(self.break_left);
        // One that is still being made does not say how long it will be.
        let seconds = if piece.whole.is_some() { piece.seconds } else { self.upcoming.target().as_secs_f64() };
        self.in_ad = Break::covers(left, seconds);
        self.break_left = left.map(|left| (left - seconds).max(0.0));
        // Playlists that do not say how many discontinuities have left them are counted on from here.
        let timeline = match self.timeline {
            Some(timeline) if self.alike => timeline + u64::from(piece.discontinuity),
            Some(timeline) => piece.timeline.max(timeline + u64::from(piece.discontinuity)),
            None if self.alike => 0,
            None => piece.timeline,
        };
        if self.timeline != Some(timeline) {
            // What is held back is of the timeline before.
            self.finish();
            self.timeline = Some(timeline);
        }
    }

    /// A demultiplexer that knows the tracks of fragmented MP4.
    async fn initialised(&mut self, map: &Map, sequence: u64) -> Result<Demuxer, Trouble> {
        let (sources, mut demuxer) = (self.sources, demuxer(Container::FragmentedMp4, self.audio)?);
        let decrypter = self.keys.of(&sources.http, map.encryption.as_ref(), sequence).await?;
        let mut clear = Clear::new(self.ahead.open(sources, &map.at).await?, decrypter);
        let mut chunk = clear.first(is_header).await?;
        while let Some(bytes) = chunk {
            demuxer.push(bytes).map_err(|error| Trouble::Passing(error.message))?;
            chunk = clear.next().await?;
        }
        Ok(demuxer)
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
        self.upcoming.skip();
        self.finish();
        Ok(())
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), Trouble> {
        if chunk.is_empty() {
            return Ok(());
        }
        let demuxer = match &mut self.demuxer {
            Some(demuxer) => demuxer,
            None => {
                let Some(container) = container(&chunk) else {
                    let encryption = self.open.take().and_then(|open| open.encryption);
                    self.keys.forget(encryption.as_ref());
                    let why = if encryption.is_some() {
                        "once it is decrypted: its key does not fit"
                    } else {
                        "that is read"
                    };
                    return self.lose(Trouble::Passing(format!("a segment is no media {why}")));
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
                MediaEvent::Video(packet) | MediaEvent::Audio(packet) => {
                    (self.timeline.unwrap_or_default(), packet.dts)
                }
                _ => self.head.unwrap_or_default(),
            };
            self.head = self.head.max(Some(at));
            // It goes out with the packet that it is the date of.
            let is_packet = matches!(event, MediaEvent::Video(_) | MediaEvent::Audio(_));
            let recorded_at = self.open.as_mut().filter(|_| is_packet).and_then(|open| open.recorded_at.take());
            self.ready.push_back(Item { event, recorded_at, at });
        }
    }

    /// Looks at the playlist again, when it is time; where its server offers that, it answers when there is
    /// something new.
    async fn look(&mut self) -> Result<(), Trouble> {
        tokio::time::sleep_until(self.upcoming.reload()).await;
        let (sources, began, ask) = (self.sources, Instant::now(), self.upcoming.ask());
        let url = ask.map_or_else(|| self.url.clone(), |(sequence, part)| waiting(&self.url, sequence, part));
        if ask.is_some()
            && let Some(hint) = self.upcoming.hint()
        {
            self.ahead.ask(sources, hint);
        }
        let read = async {
            let (at, text) = sources.http.playlist(&url).await?;
            match parse(&text, &at, sources.config.max_height, None) {
                Ok(Listing::Media(media)) => Ok(media),
                Ok(Listing::Master(_)) => Err(Trouble::Passing("the playlist names no media any more".to_owned())),
                Err(reason) => Err(Trouble::Passing(reason)),
            }
        };
        tokio::pin!(read);
        let read = tokio::select! {
            biased;
            read = &mut read => read,
            () = self.ahead.answered() => read.await,
        };
        match read {
            Ok(media) => self.upcoming.list(media, ask.map(|_| began), Instant::now()),
            Err(Trouble::Passing(_)) if self.upcoming.failed(Instant::now()) < TRIES => {}
            Err(trouble) => return Err(trouble),
        }
        match self.upcoming.stalled(Instant::now()) {
            Some(limit) => Err(Trouble::Passing(format!("the playlist has not gone on for {} s", limit.as_secs()))),
            None => Ok(()),
        }
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

/// Whether this begins a header of MP4 in the clear.
fn is_header(head: &[u8]) -> bool {
    head.get(4..8).is_some_and(|kind| [b"ftyp", b"styp", b"moov", b"free"].iter().any(|k| kind == &k[..]))
}
