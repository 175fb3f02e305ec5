//! What the header of a fragmented MP4 says of its tracks.

use bytes::Bytes;
use crest_core::codec::MediaEvent;
use crest_core::{Error, Result};
use mp4_atom::{Atom, Avc1, Codec, Hvc1, Moov, Trak, Trex};

use super::notes::{Notes, missing};
use crate::mp4::entry;

/// Kinds of MPEG-4 audio objects that are AAC (ISO/IEC 14496-1, table 5, by the register of MP4RA).
const AAC: [u8; 4] = [0x40, 0x66, 0x67, 0x68];

/// A track that is read.
#[derive(Debug)]
pub(super) struct TrackHeader {
    pub(super) id: u32,
    pub(super) timescale: u32,
    /// Ticks that its edit list adds to times.
    pub(super) shift: i64,
    pub(super) defaults: Trex,
    pub(super) config: MediaEvent,
}

impl TrackHeader {
    pub(super) fn is_video(&self) -> bool {
        matches!(self.config, MediaEvent::VideoConfig(_))
    }
}

/// The first video track that can be read, and of the audio tracks that can be the first or the one that is chosen.
pub(super) fn tracks(body: &[u8], audio: Option<u8>, notes: &mut Notes) -> Result<Vec<TrackHeader>> {
    let moov = Moov::decode_body(&mut &body[..])
        .map_err(|e| Error::outside(format!("the header of the MP4 cannot be read: {e}")))?;
    let mut tracks: Vec<TrackHeader> = Vec::new();
    let (wanted, mut sounds) = (usize::from(audio.unwrap_or_default()), 0);
    for trak in &moov.trak {
        let timescale = trak.mdia.mdhd.timescale.max(1);
        let codecs = &trak.mdia.minf.stbl.stsd.codecs;
        let Some(config) = codecs.iter().find_map(|codec| config(codec, timescale)) else {
            let kind = codecs.first().map_or_else(|| "nothing".to_owned(), name);
            notes.add(format!("a track is left out: {kind} in MP4 is not read, only H.264, H.265 and AAC"));
            continue;
        };
        let track = TrackHeader {
            id: trak.tkhd.track_id,
            timescale,
            shift: shift(trak, moov.mvhd.timescale.max(1), timescale),
            defaults: defaults(&moov, trak.tkhd.track_id),
            config,
        };
        let passed_by = !track.is_video() && sounds < wanted;
        sounds += usize::from(!track.is_video());
        if passed_by || tracks.iter().any(|other| other.is_video() == track.is_video()) {
            let media = if track.is_video() { "video" } else { "audio" };
            notes.add(format!("a further {media} track is left out: one of each is read"));
            continue;
        }
        tracks.push(track);
    }
    if let Some(track) = audio.filter(|_| sounds <= wanted) {
        notes.add(missing(track, sounds));
    }
    Ok(tracks)
}

fn defaults(moov: &Moov, id: u32) -> Trex {
    let found = moov.mvex.iter().flat_map(|mvex| &mvex.trex).find(|trex| trex.track_id == id);
    found.cloned().unwrap_or_default()
}

/// Where the edit list puts the beginning: an empty edit delays it, a media time cuts off what is before it.
fn shift(trak: &Trak, movie: u32, timescale: u32) -> i64 {
    let Some(list) = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref()) else { return 0 };
    let mut shift = 0_i64;
    for entry in &list.entries {
        match entry.media_time {
            None => {
                let delay = u128::from(entry.segment_duration) * u128::from(timescale) / u128::from(movie);
                shift = shift.saturating_add(i64::try_from(delay).unwrap_or(0));
            }
            Some(begin) => return shift.saturating_sub(i64::try_from(begin).unwrap_or(0)),
        }
    }
    shift
}

fn config(codec: &Codec, timescale: u32) -> Option<MediaEvent> {
    match codec {
        Codec::Avc1(_) | Codec::Hvc1(_) => entry::video_config(codec),
        // The same entries under the names that allow parameter sets among the pictures too.
        Codec::Avc3(avc3) => {
            let (visual, avcc) = (avc3.visual.clone(), avc3.avcc.clone());
            entry::video_config(&Avc1 { visual, avcc, ..Default::default() }.into())
        }
        Codec::Hev1(hev1) => {
            let (visual, hvcc) = (hev1.visual.clone(), hev1.hvcc.clone());
            entry::video_config(&Hvc1 { visual, hvcc, ..Default::default() }.into())
        }
        Codec::Mp4a(mp4a) if AAC.contains(&mp4a.esds.es_desc.dec_config.object_type_indication) => {
            let rate = u32::from(mp4a.audio.sample_rate.integer());
            return entry::audio_config(codec, if rate > 0 { rate } else { timescale }).map(MediaEvent::AudioConfig);
        }
        _ => None,
    }
    .filter(|config| config.record != Bytes::new())
    .map(MediaEvent::VideoConfig)
}

fn name(codec: &Codec) -> String {
    match codec {
        Codec::Mp4a(_) | Codec::Mp3(_) => "MP3 or another MPEG audio".to_owned(),
        Codec::Opus(_) => "Opus".to_owned(),
        Codec::Av01(_) => "AV1".to_owned(),
        Codec::Vp09(_) => "VP9".to_owned(),
        Codec::Vp08(_) => "VP8".to_owned(),
        Codec::Unknown(kind, _) => format!("{kind}"),
        _ => "another codec".to_owned(),
    }
}
