//! What of a playlist comes next: the pieces that are listed and were not read, and when it is looked at again.

use crest_core::WallTime;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

use super::parts::LowLatency;
use super::playlist::{Media, Piece, Resource};
use super::track::TRIES;

/// A live playlist that does not go on for so many of its longest pieces is taken for dead.
const STALLED: u32 = 6;
const STALLED_AT_LEAST: Duration = Duration::from_secs(30);
/// The shortest time between two looks at a playlist.
pub(super) const RELOAD: Duration = Duration::from_millis(250);
/// The same, where the server answers when there is something new.
const WAITING: Duration = Duration::from_millis(50);

/// What was not read yet of a playlist.
#[derive(Debug)]
pub(super) struct Upcoming {
    listed: VecDeque<Piece>,
    /// The sequence number of the piece that comes next, and how many of its parts were taken.
    next: Option<u64>,
    parts: usize,
    /// When that piece was recorded, as far as is known.
    next_at: Option<WallTime>,
    target: Duration,
    low_latency: Option<LowLatency>,
    hint: Option<Resource>,
    /// Nothing will be listed any more.
    complete: bool,
    /// When the playlist may be looked at again.
    reload: Instant,
    /// When something was listed last.
    news: Instant,
    /// Looks in a row that failed, and that brought nothing though the server was asked to wait for it.
    failures: u32,
    ignored: u32,
}

/// What is read next: a piece, or a part of one.
#[derive(Debug)]
pub(super) struct Pick {
    /// The piece, without its parts.
    pub(super) piece: Piece,
    pub(super) at: Resource,
    /// Whether the piece begins with it.
    pub(super) first: bool,
    /// Whether it is a part.
    pub(super) part: bool,
    /// Its server says that it does not have it.
    pub(super) missing: bool,
    /// When it was recorded, where that is known and nothing of the piece was there before it.
    pub(super) recorded_at: Option<WallTime>,
}

impl Upcoming {
    /// Begins where an earlier pull broke off, where that is still listed; else near the end of what is live, as near
    /// as its server allows or else `live_segments` before it, and at the beginning of a recording.
    pub(super) fn new(media: Media, reached: Option<u64>, live_segments: usize, now: Instant) -> Self {
        let next = reached.filter(|next| window(&media).is_some_and(|(first, end)| (first..=end).contains(next)));
        let mut this = Self {
            listed: VecDeque::new(),
            next: next.or_else(|| begin(&media, live_segments)),
            parts: 0,
            next_at: None,
            target: media.target,
            low_latency: None,
            hint: None,
            complete: false,
            reload: now,
            news: now,
            failures: 0,
            ignored: 0,
        };
        this.list(media, None, now);
        this
    }

    /// The piece that comes next, when one was begun.
    pub(super) fn reached(&self) -> Option<u64> {
        Some(self.next? + u64::from(self.parts > 0))
    }

    /// No piece lasts longer.
    pub(super) fn target(&self) -> Duration {
        self.target
    }

    /// Whether nothing will be listed any more.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// When the playlist may be looked at again.
    pub(super) fn reload(&self) -> Instant {
        self.reload
    }

    /// What comes next, if it is listed.
    pub(super) fn pick(&mut self) -> Option<Pick> {
        loop {
            let piece = self.listed.front()?;
            // Of one that is missing there may be parts.
            let in_parts = self.parts > 0 || (piece.gap && piece.parts.iter().any(|part| !part.gap));
            if let Some(at) = piece.whole.clone().filter(|_| !in_parts) {
                let piece = self.pass()?;
                let (missing, recorded_at) = (piece.gap, piece.at);
                return Some(Pick { piece, at, first: true, part: false, missing, recorded_at });
            }
            if let Some(part) = piece.parts.get(self.parts) {
                let (at, missing, first) = (part.at.clone(), part.gap, self.parts == 0);
                let before = piece.parts.get(..self.parts).unwrap_or_default();
                let since =
                    |at: WallTime| at.plus_millis((before.iter().map(|p| p.seconds).sum::<f64>() * 1000.0) as i64);
                let recorded_at = piece.at.filter(|_| before.iter().all(|part| part.gap)).map(since);
                let piece = piece.without_parts();
                (self.next, self.parts) = (Some(piece.sequence), self.parts + 1);
                return Some(Pick { piece, at, first, part: true, missing, recorded_at });
            }
            // Of one that is whole all parts were taken, or they are not listed any more.
            piece.whole.as_ref()?;
            if piece.parts.len() < self.parts {
                metrics::counter!("crest_pull_segments_lost_total").increment(1);
            }
            self.pass();
        }
    }

    /// Leaves out what remains of a piece that is taken in parts.
    pub(super) fn skip(&mut self) {
        if self.parts > 0 {
            if self.listed.front().map(|piece| piece.sequence) == self.next {
                self.listed.pop_front();
            }
            (self.next, self.parts, self.next_at) = (self.next.map(|next| next + 1), 0, None);
        }
    }

    fn pass(&mut self) -> Option<Piece> {
        let piece = self.listed.pop_front()?;
        (self.next, self.parts) = (Some(piece.sequence + 1), 0);
        self.next_at = piece.at.map(|at| at.plus_millis((piece.seconds * 1000.0) as i64));
        Some(piece)
    }

    /// The piece and the part that the server is to wait for, where it does so.
    pub(super) fn ask(&self) -> Option<(u64, Option<usize>)> {
        let low = self.low_latency.filter(|_| self.failures == 0 && self.ignored < TRIES)?;
        Some((self.next?, low.in_parts.then_some(self.parts)))
    }

    /// The part that the server will have next.
    pub(super) fn hint(&self) -> Option<&Resource> {
        self.hint.as_ref().filter(|_| self.low_latency.is_some_and(|low| low.in_parts))
    }

    /// Takes note of what is new in the playlist. `asked` is when the server was asked to wait for it, if it was.
    pub(super) fn list(&mut self, media: Media, asked: Option<Instant>, now: Instant) {
        // A server that began anew counts from the beginning; one that is a little behind is another copy of it.
        let length = media.pieces.len() as u64 + 1;
        let end = window(&media).map(|(_, end)| end);
        let anew = self.next.is_some_and(|next| end.is_some_and(|end| end + length <= next));
        let first = media.pieces.first().map(|piece| piece.sequence);
        // What was listed before may have gone from the list, and still be there.
        let stays = |piece: &Piece| piece.whole.is_some() && (anew || first.is_none_or(|first| piece.sequence < first));
        self.listed.retain(stays);
        let (before, next) = (self.listed.len(), self.next);
        self.listed.extend(media.pieces.into_iter().filter(|piece| anew || next.is_none_or(|n| piece.sequence >= n)));
        if anew && let Some(first) = self.listed.get_mut(before) {
            first.discontinuity = true;
        }
        if self.listed.front().is_some_and(|piece| Some(piece.sequence) != next) {
            self.parts = 0;
        }
        (self.target, self.complete, self.failures) = (media.target, media.over, 0);
        (self.low_latency, self.hint) = (media.low_latency, media.hint);
        let has_news = self.has_next();
        if has_news {
            self.news = now;
        }
        if asked.is_some() {
            self.ignored = if has_news { 0 } else { self.ignored + 1 };
            if self.ignored == TRIES {
                tracing::info!("a server does not wait with its playlist, though it says so; it is asked less often");
            }
        }
        self.reload = match (has_news, self.ask().and(self.low_latency)) {
            (true, Some(low)) => asked.unwrap_or(now) + (low.part_target / 2).max(WAITING),
            // RFC 8216 6.3.4: a target duration after a look that brought something, half of one after others.
            (true, None) => now + self.target.max(RELOAD),
            (false, _) => now + (self.target / 2).max(RELOAD),
        };
    }

    fn has_next(&self) -> bool {
        let taken = |at: usize| if at == 0 { self.parts } else { 0 };
        let mut pieces = self.listed.iter().enumerate();
        pieces.any(|(at, piece)| (taken(at) == 0 && piece.whole.is_some()) || piece.parts.len() > taken(at))
    }

    /// A look has failed; how many did in a row.
    pub(super) fn failed(&mut self, now: Instant) -> u32 {
        self.failures += 1;
        self.reload = now + (self.target / 2).max(RELOAD);
        self.failures
    }

    /// For how long the playlist has not gone on, where that is too long.
    pub(super) fn stalled(&self, now: Instant) -> Option<Duration> {
        let limit = (self.target * STALLED).max(STALLED_AT_LEAST);
        (!self.complete && now.duration_since(self.news) > limit).then_some(limit)
    }

    /// Where this goes on in a playlist of the same broadcast that was found at another address: by the time that the
    /// pieces were recorded at, where both tell it, else by their numbers.
    pub(super) fn place_in(&self, media: &Media) -> Option<u64> {
        let (next, (first, end)) = (self.next?, window(media)?);
        let at = self.listed.front().map_or(self.next_at, |piece| piece.at);
        let by_number = (first..=end).contains(&next).then_some(next);
        let (Some(at), Some(last)) = (at, media.pieces.last()) else { return by_number };
        let Some(last_at) = last.at else { return by_number };
        let after = (end, last_at.plus_millis((last.seconds * 1000.0) as i64), last.seconds);
        let places = media.pieces.iter().filter_map(|piece| Some((piece.sequence, piece.at?, piece.seconds)));
        let places = places.chain([after]).map(|(place, from, seconds)| {
            let segment = seconds.max(media.target.as_secs_f64()) * 1000.0;
            (place, from.0.abs_diff(at.0), segment)
        });
        let nearest = places.clone().min_by_key(|(_, off, _)| *off).filter(|(_, off, seg)| *off as f64 <= seg / 2.0);
        // Two servers may date the same segments a little differently: then the numbers tell.
        let agrees = |next: &u64| places.clone().any(|(place, off, seg)| place == *next && off as f64 <= seg);
        let place = nearest.map(|(place, ..)| place).or_else(|| by_number.filter(agrees));
        // In the middle of a piece there is no going over to another number.
        place.filter(|place| self.parts == 0 || *place == next)
    }

    /// Goes on at this place of a playlist that was found at another address.
    pub(super) fn go_over(&mut self, media: Media, place: u64, now: Instant) {
        if self.next != Some(place) {
            self.listed.clear();
            self.next = Some(place);
        }
        self.list(media, None, now);
    }
}

/// The numbers of the first piece and of the one after the last.
fn window(media: &Media) -> Option<(u64, u64)> {
    Some((media.pieces.first()?.sequence, media.pieces.last()?.sequence + 1))
}

fn begin(media: &Media, live_segments: usize) -> Option<u64> {
    let pieces = &media.pieces;
    let live = pieces.len().saturating_sub(live_segments.max(1));
    let near = |low: LowLatency| {
        let mut behind = 0.0;
        pieces.iter().rposition(|piece| {
            behind +=
                piece.whole.as_ref().map_or_else(|| piece.parts.iter().map(|p| p.seconds).sum(), |_| piece.seconds);
            behind >= low.hold_back.as_secs_f64()
        })
    };
    let at = if media.over { 0 } else { media.low_latency.and_then(near).unwrap_or(live) };
    Some(pieces.get(at)?.sequence)
}

#[cfg(test)]
#[path = "upcoming_tests.rs"]
mod tests;
