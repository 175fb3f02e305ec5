//! The header of a finished clip: `ftyp`, `moov` with all sample tables, and the start of `mdat`.

use crest_core::{MediaTime, Result};
use mp4_atom::{
    Co64, Ctts, CttsEntry, Elst, ElstEntry, Encode, FixedPoint, Header, Moov, Stbl, Stco, Stsc, StscEntry, Stss, Stsz,
    StszSamples, Stts, SttsEntry, Trak,
};

use super::init::{audio_track, encoding, file_type, movie, video_track};
use super::track::{AUDIO, Timing, Tracks, VIDEO, VIDEO_TIMESCALE, rescale, ticks};

/// Bytes that lie side by side in the file, of one track.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    pub track: u32,
    pub samples: u32,
    pub bytes: u64,
}

/// What goes into a clip.
#[derive(Debug, Default)]
pub(crate) struct Movie {
    pub tracks: Tracks,
    /// When and how large, in decoding order.
    pub video: Vec<(Timing, u32)>,
    pub audio: Vec<(Timing, u32)>,
    /// In the order of the file.
    pub chunks: Vec<Chunk>,
    /// Session time at which the clip begins.
    pub start: MediaTime,
    /// Session time at which it ends.
    pub end: MediaTime,
}

/// Everything that stands before the media. Equal movies give equal bytes.
pub(crate) fn header(movie: &Movie) -> Result<Vec<u8>> {
    let payload: u64 = movie.chunks.iter().map(|c| c.bytes).sum();
    let mdat = Header { kind: (b"mdat").into(), size: Some(usize::try_from(payload).unwrap_or(usize::MAX)) };
    let mut tail = Vec::new();
    mdat.encode(&mut tail).map_err(encoding)?;
    let mut head = Vec::new();
    file_type(b"isom", &[b"isom", b"iso6", b"mp41"]).encode(&mut head).map_err(encoding)?;
    // Room for the tables is known before the offsets in them are.
    let wide = payload > u64::from(u32::MAX) - (64 << 20);
    let mut draft = Vec::new();
    tables(movie, 0, wide)?.encode(&mut draft).map_err(encoding)?;
    let first = (head.len() + draft.len() + tail.len()) as u64;
    tables(movie, first, wide)?.encode(&mut head).map_err(encoding)?;
    head.extend_from_slice(&tail);
    Ok(head)
}

fn tables(movie_: &Movie, first: u64, wide: bool) -> Result<Moov> {
    let mut moov = Moov::default();
    for (track, samples) in [(VIDEO, &movie_.video), (AUDIO, &movie_.audio)] {
        if samples.is_empty() {
            continue;
        }
        let timescale = if track == VIDEO { VIDEO_TIMESCALE } else { movie_.tracks.audio_timescale() };
        let (mut stbl, media_length) = sample_tables(samples, track == VIDEO);
        place(&mut stbl, &movie_.chunks, track, first, wide);
        let (edits, duration) = edits(samples, timescale, movie_.start, movie_.end);
        let mut trak: Trak = if track == VIDEO {
            video_track(&movie_.tracks, stbl, duration, Some(edits))?
        } else {
            audio_track(&movie_.tracks, stbl, duration, Some(edits))?
        };
        trak.mdia.mdhd.duration = media_length;
        moov.trak.push(trak);
    }
    moov.mvhd = movie(moov.trak.iter().map(|t| t.tkhd.duration).max().unwrap_or(0));
    Ok(moov)
}

/// Decoding times as a file has them: from zero, rising, and never after presentation.
fn decode_times(samples: &[(Timing, u32)]) -> Vec<i64> {
    let slack = samples.iter().map(|(t, _)| t.pts.saturating_sub(t.dts)).min().unwrap_or(0);
    let mut last = i64::MIN;
    let mut out = Vec::with_capacity(samples.len());
    for (timing, _) in samples {
        last = timing.dts.saturating_add(slack).max(last.saturating_add(1));
        out.push(last);
    }
    out
}

fn sample_tables(samples: &[(Timing, u32)], video: bool) -> (Stbl, u64) {
    let times = decode_times(samples);
    let mut stts: Vec<SttsEntry> = Vec::new();
    let mut ctts: Vec<CttsEntry> = Vec::new();
    let mut length = 0_u64;
    for (i, ((timing, _), dts)) in samples.iter().zip(&times).enumerate() {
        let step = times.get(i + 1).map_or(i64::from(timing.duration), |next| next - dts);
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        length += u64::from(step);
        match stts.last_mut() {
            Some(entry) if entry.sample_delta == step => entry.sample_count += 1,
            _ => stts.push(SttsEntry { sample_count: 1, sample_delta: step }),
        }
        let offset = timing.pts.saturating_sub(*dts);
        match ctts.last_mut() {
            Some(entry) if entry.sample_offset == offset => entry.sample_count += 1,
            _ => ctts.push(CttsEntry { sample_count: 1, sample_offset: offset }),
        }
    }
    let sync: Vec<u32> = (1..).zip(samples).filter(|(_, (t, _))| t.keyframe).map(|(number, _)| number).collect();
    let reordered = ctts.iter().any(|entry| entry.sample_offset != 0);
    let stbl = Stbl {
        stts: Stts { entries: stts },
        ctts: reordered.then_some(Ctts { entries: ctts }),
        stss: (video && sync.len() < samples.len()).then_some(Stss { entries: sync }),
        stsz: Stsz { samples: StszSamples::Different { sizes: samples.iter().map(|(_, size)| *size).collect() } },
        ..Default::default()
    };
    (stbl, length)
}

/// Writes down which chunks are the track's and where they lie.
fn place(stbl: &mut Stbl, chunks: &[Chunk], track: u32, first: u64, wide: bool) {
    let mut offset = first;
    let mut offsets = Vec::new();
    let mut runs: Vec<StscEntry> = Vec::new();
    for chunk in chunks {
        if chunk.track == track {
            offsets.push(offset);
            if runs.last().is_none_or(|run| run.samples_per_chunk != chunk.samples) {
                runs.push(StscEntry {
                    first_chunk: u32::try_from(offsets.len()).unwrap_or(u32::MAX),
                    samples_per_chunk: chunk.samples,
                    sample_description_index: 1,
                });
            }
        }
        offset += chunk.bytes;
    }
    stbl.stsc = Stsc { entries: runs };
    if wide {
        stbl.co64 = Some(Co64 { entries: offsets });
    } else {
        let entries = offsets.into_iter().map(|offset| u32::try_from(offset).unwrap_or(u32::MAX)).collect();
        stbl.stco = Some(Stco { entries });
    }
}

/// The edit list that puts a track onto the clip's timeline, and its length there in [`VIDEO_TIMESCALE`]: what
/// comes before `start` or after `end` is not presented, a track that begins later is preceded by nothing.
fn edits(samples: &[(Timing, u32)], timescale: u32, start: MediaTime, end: MediaTime) -> (Elst, u64) {
    let base = decode_times(samples).first().copied().unwrap_or(0);
    let first = samples.iter().map(|(t, _)| t.pts).min().unwrap_or(0);
    let last = samples.iter().map(|(t, _)| t.pts.saturating_add(i64::from(t.duration))).max().unwrap_or(0);
    let (start, end) = (ticks(start, timescale), ticks(end, timescale).min(last));
    let movie = |ticks: i64| u64::try_from(rescale(ticks, timescale, VIDEO_TIMESCALE)).unwrap_or(0);
    let rate = FixedPoint::from(1);
    let mut entries = Vec::new();
    let gap = movie(first - start);
    if gap > 0 {
        entries.push(ElstEntry { segment_duration: gap, media_time: None, media_rate: rate });
    }
    let shown = first.max(start);
    let length = movie(end - shown);
    let media_time = u64::try_from(shown - base).ok().or(Some(0));
    entries.push(ElstEntry { segment_duration: length, media_time, media_rate: FixedPoint::from(1) });
    (Elst { entries }, gap + length)
}
