//! Which access units a clip consists of.

use crest_core::MediaTime;

use crate::mp4::read::Located;
use crate::mp4::track::{VIDEO_TIMESCALE, ticks, time};
use crate::source::Run;

/// An access unit, and the piece of the run it lies in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selected {
    pub piece: usize,
    pub located: Located,
}

/// A clip's access units in decoding order, and the span they show.
#[derive(Debug)]
pub(super) struct Selection {
    pub video: Vec<Selected>,
    pub audio: Vec<Selected>,
    pub start: MediaTime,
    pub end: MediaTime,
}

/// Selects `[from, to)`; `None` where nothing playable lies in it.
pub(super) fn select(run: &Run, from: MediaTime, to: MediaTime) -> Option<Selection> {
    let scale = run.tracks.audio_timescale();
    let all = |units: fn(&crate::source::Piece) -> &Vec<Located>| -> Vec<Selected> {
        let pieces = run.pieces.iter().enumerate();
        pieces.flat_map(|(piece, p)| units(p).iter().map(move |l| Selected { piece, located: *l })).collect()
    };
    let (video, audio) = (all(|p| &p.index.video), all(|p| &p.index.audio));
    if video.is_empty() {
        let audio = between(&audio, ticks(from, scale), ticks(to, scale));
        let start = time(audio.first()?.located.timing.pts, scale);
        let end = end_of(&audio, scale)?;
        return Some(Selection { video, audio, start, end });
    }
    let video = pictures(&video, ticks(from, VIDEO_TIMESCALE), ticks(to, VIDEO_TIMESCALE))?;
    let start = time(video.first()?.located.timing.pts, VIDEO_TIMESCALE);
    let end = end_of(&video, VIDEO_TIMESCALE)?;
    let audio = between(&audio, ticks(start, scale), ticks(end, scale));
    Some(Selection { video, audio, start, end })
}

/// Units of which something plays within `[from, to)`.
fn between(units: &[Selected], from: i64, to: i64) -> Vec<Selected> {
    let plays = |s: &&Selected| s.located.timing.pts < to && end(s) > from;
    units.iter().filter(plays).copied().collect()
}

fn pictures(video: &[Selected], from: i64, to: i64) -> Option<Vec<Selected>> {
    let keyframes = || video.iter().enumerate().filter(|(_, s)| s.located.timing.keyframe);
    let (first, key) = keyframes().rfind(|(_, s)| s.located.timing.pts <= from).or_else(|| keyframes().next())?;
    let key = key.located.timing.pts;
    let rest = video.get(first..)?;
    let mut last = rest.iter().rposition(|s| s.located.timing.pts < to)?;
    // A frame is decoded after those it refers to, some of which are shown later. Everything shown before any of
    // them belongs to the clip too, or the picture would skip.
    loop {
        let shown = rest.get(..=last)?.iter().map(|s| s.located.timing.pts).max()?;
        match rest.iter().rposition(|s| s.located.timing.pts < shown) {
            Some(further) if further > last => last = further,
            _ => break,
        }
    }
    // Frames shown before the first keyframe refer to what is not in the clip.
    let taken: Vec<_> = rest.get(..=last)?.iter().filter(|s| s.located.timing.pts >= key).copied().collect();
    (!taken.is_empty()).then_some(taken)
}

fn end(unit: &Selected) -> i64 {
    unit.located.timing.pts.saturating_add(i64::from(unit.located.timing.duration))
}

fn end_of(units: &[Selected], timescale: u32) -> Option<MediaTime> {
    units.iter().map(end).max().map(|ticks| time(ticks, timescale))
}
