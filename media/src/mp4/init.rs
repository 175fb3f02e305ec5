//! The header of a file: `ftyp` and `moov`.

use crest_core::{Error, Result};
use mp4_atom::{
    Codec, Dinf, Dref, DrefEntry, Edts, Elst, Encode, FixedPoint, Ftyp, Hdlr, Mdhd, Mdia, Minf, Moov, Mvex, Mvhd, Smhd,
    Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Vmhd,
};

use super::entry;
use super::track::{AUDIO, Tracks, VIDEO, VIDEO_TIMESCALE};

/// The header of a fragmented file: no samples, and a promise of fragments.
pub(crate) fn fragmented(tracks: &Tracks) -> Result<Vec<u8>> {
    let empty = || Stbl { stco: Some(Stco::default()), ..Default::default() };
    let mut moov = Moov { mvhd: movie(0), mvex: Some(Mvex::default()), ..Default::default() };
    if tracks.video.is_some() {
        moov.trak.push(video_track(tracks, empty(), 0, None)?);
    }
    if tracks.audio.is_some() {
        moov.trak.push(audio_track(tracks, empty(), 0, None)?);
    }
    let extends = moov.trak.iter().map(|t| Trex {
        track_id: t.tkhd.track_id,
        default_sample_description_index: 1,
        ..Default::default()
    });
    let extends = extends.collect();
    moov.mvex = Some(Mvex { mehd: None, trex: extends });
    let mut out = Vec::new();
    file_type(b"iso6", &[b"iso6", b"cmfc", b"mp41"]).encode(&mut out).map_err(encoding)?;
    moov.encode(&mut out).map_err(encoding)?;
    Ok(out)
}

/// A file type box.
pub(crate) fn file_type(major: &[u8; 4], compatible: &[&[u8; 4]]) -> Ftyp {
    Ftyp {
        major_brand: major.into(),
        minor_version: 0,
        compatible_brands: compatible.iter().map(|brand| (*brand).into()).collect(),
    }
}

/// The movie header; `duration` in [`VIDEO_TIMESCALE`]. No clock is read: the same media gives the same bytes.
pub(crate) fn movie(duration: u64) -> Mvhd {
    Mvhd {
        timescale: VIDEO_TIMESCALE,
        duration,
        rate: FixedPoint::from(1),
        volume: FixedPoint::from(1),
        next_track_id: AUDIO + 1,
        ..Default::default()
    }
}

/// The video track; `duration` in [`VIDEO_TIMESCALE`].
pub(crate) fn video_track(tracks: &Tracks, stbl: Stbl, duration: u64, edits: Option<Elst>) -> Result<Trak> {
    let config = tracks.video.as_ref().ok_or_else(|| Error::ours("a video track without its configuration"))?;
    let side = |pixels: u32| FixedPoint::from(u16::try_from(pixels).unwrap_or(u16::MAX));
    let mut trak = track(VIDEO, VIDEO_TIMESCALE, *b"vide", entry::video(config)?, stbl, duration, edits);
    trak.tkhd.width = side(config.width);
    trak.tkhd.height = side(config.height);
    trak.mdia.minf.vmhd = Some(Vmhd::default());
    Ok(trak)
}

/// The audio track; `duration` in [`VIDEO_TIMESCALE`].
pub(crate) fn audio_track(tracks: &Tracks, stbl: Stbl, duration: u64, edits: Option<Elst>) -> Result<Trak> {
    let config = tracks.audio.as_ref().ok_or_else(|| Error::ours("an audio track without its configuration"))?;
    let mut trak = track(AUDIO, tracks.audio_timescale(), *b"soun", entry::audio(config)?, stbl, duration, edits);
    trak.tkhd.volume = FixedPoint::from(1);
    trak.tkhd.alternate_group = 1;
    trak.mdia.minf.smhd = Some(Smhd::default());
    Ok(trak)
}

fn track(
    id: u32,
    timescale: u32,
    handler: [u8; 4],
    codec: Codec,
    mut stbl: Stbl,
    duration: u64,
    edits: Option<Elst>,
) -> Trak {
    stbl.stsd = Stsd { codecs: vec![codec] };
    let media = super::track::rescale(i64::try_from(duration).unwrap_or(i64::MAX), VIDEO_TIMESCALE, timescale);
    Trak {
        tkhd: Tkhd { track_id: id, duration, enabled: true, in_movie: true, ..Default::default() },
        edts: edits.map(|elst| Edts { elst: Some(elst) }),
        mdia: Mdia {
            mdhd: Mdhd {
                timescale,
                duration: u64::try_from(media).unwrap_or(0),
                language: "und".to_owned(),
                ..Default::default()
            },
            hdlr: Hdlr { handler: (&handler).into(), name: "crest".to_owned() },
            minf: Minf {
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
                stbl,
                ..Default::default()
            },
        },
        ..Default::default()
    }
}

/// A box that cannot be encoded is a defect: everything in it is ours or was checked.
pub(crate) fn encoding(e: mp4_atom::Error) -> Error {
    Error::ours(format!("cannot write an MP4 box: {e}"))
}
