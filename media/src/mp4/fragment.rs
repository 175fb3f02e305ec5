//! One fragment: `moof` and `mdat`.

use bytes::Bytes;
use crest_core::{Error, Result};
use mp4_atom::{Encode, Header, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use super::init::encoding;
use super::track::Timing;

/// Sample flags: depends on nothing, is a sync sample.
const SYNC: u32 = 0x0200_0000;
/// Sample flags: depends on others, is no sync sample.
const DEPENDENT: u32 = 0x0101_0000;

/// An access unit and when it plays.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub timing: Timing,
    pub data: Bytes,
}

/// Encodes what precedes the samples of a fragment: `moof` and the header of `mdat`. The samples of all runs follow it,
/// one after another. `runs` are `(track id, samples in decoding order)`; empty ones are left out. Decoding times must
/// not be negative; presentation may come before decoding (signed composition offsets).
pub(crate) fn head(sequence: u32, runs: &[(u32, Vec<Sample>)]) -> Result<Vec<u8>> {
    let runs: Vec<_> = runs.iter().filter(|(_, samples)| !samples.is_empty()).collect();
    // Offsets count from the start of `moof`, whose size does not depend on their values.
    let mut moof = Moof { mfhd: Mfhd { sequence_number: sequence }, traf: Vec::new() };
    for (track, samples) in &runs {
        moof.traf.push(traf(*track, samples)?);
    }
    let mut head = Vec::new();
    moof.encode(&mut head).map_err(encoding)?;
    let payload: usize = runs.iter().flat_map(|(_, samples)| samples).map(|s| s.data.len()).sum();
    let mdat = Header { kind: (b"mdat").into(), size: Some(payload) };
    let mut offset = head.len() + if payload + 8 > u32::MAX as usize { 16 } else { 8 };
    for (traf, (_, samples)) in moof.traf.iter_mut().zip(&runs) {
        for run in &mut traf.trun {
            run.data_offset = Some(i32::try_from(offset).map_err(|_| too_large())?);
        }
        offset += samples.iter().map(|s| s.data.len()).sum::<usize>();
    }
    head.clear();
    moof.encode(&mut head).map_err(encoding)?;
    mdat.encode(&mut head).map_err(encoding)?;
    Ok(head)
}

fn traf(track: u32, samples: &[Sample]) -> Result<Traf> {
    let first = samples.first().map_or(0, |s| s.timing.dts);
    let mut entries = Vec::with_capacity(samples.len());
    for sample in samples {
        entries.push(TrunEntry {
            duration: Some(sample.timing.duration),
            size: Some(u32::try_from(sample.data.len()).map_err(|_| too_large())?),
            flags: Some(if sample.timing.keyframe { SYNC } else { DEPENDENT }),
            cts: Some(sample.timing.pts - sample.timing.dts),
        });
    }
    Ok(Traf {
        tfhd: Tfhd { track_id: track, default_base_is_moof: true, ..Default::default() },
        tfdt: Some(Tfdt { base_media_decode_time: u64::try_from(first).unwrap_or(0) }),
        trun: vec![Trun { data_offset: Some(0), samples: entries.into() }],
        ..Default::default()
    })
}

/// Whether flags of a sample say that decoding can start there.
pub(crate) fn is_sync(flags: u32) -> bool {
    flags & 0x0001_0000 == 0
}

fn too_large() -> Error {
    Error::user("an access unit or fragment is larger than 2 GiB; lower the feed's bitrate")
}
