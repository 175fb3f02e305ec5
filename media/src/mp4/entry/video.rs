//! Video tracks: `avc1`, `hvc1`, `av01`, `vp09` and `vp08`.

use bytes::Bytes;
use crest_core::Result;
use crest_core::codec::{VideoCodec, VideoConfig};
use mp4_atom::{Atom, Av01, Av1c, Avc1, Avcc, Codec, Hvc1, Hvcc, Visual, Vp08, Vp09, VpcC};

use super::unreadable;

/// The sample entry of a video track. A record that does not parse is the feed's fault.
pub(crate) fn video(config: &VideoConfig) -> Result<Codec> {
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    let visual = Visual {
        data_reference_index: 1,
        width: side(config.width),
        height: side(config.height),
        ..Default::default()
    };
    let record = config.record.as_ref();
    Ok(match config.codec {
        VideoCodec::H264 => Avc1 { visual, avcc: avcc(record)?, ..Default::default() }.into(),
        VideoCodec::H265 => Hvc1 { visual, hvcc: read::<Hvcc>("H.265", record)?, ..Default::default() }.into(),
        VideoCodec::Av1 => Av01 { visual, av1c: read::<Av1c>("AV1", record)?, ..Default::default() }.into(),
        VideoCodec::Vp9 => Vp09 { visual, vpcc: read::<VpcC>("VP9", record)?, ..Default::default() }.into(),
        VideoCodec::Vp8 => Vp08 { visual, vpcc: read::<VpcC>("VP8", record)?, ..Default::default() }.into(),
    })
}

/// The configuration in a video sample entry; `None` for what crest does not write.
pub(crate) fn video_config(codec: &Codec) -> Option<VideoConfig> {
    let mut record = Vec::new();
    let (codec, visual) = match codec {
        Codec::Avc1(avc1) => {
            avc1.avcc.encode_body(&mut record).ok()?;
            (VideoCodec::H264, &avc1.visual)
        }
        Codec::Hvc1(hvc1) => {
            hvc1.hvcc.encode_body(&mut record).ok()?;
            (VideoCodec::H265, &hvc1.visual)
        }
        Codec::Av01(av01) => {
            av01.av1c.encode_body(&mut record).ok()?;
            (VideoCodec::Av1, &av01.visual)
        }
        Codec::Vp09(vp09) => {
            vp09.vpcc.encode_body(&mut record).ok()?;
            (VideoCodec::Vp9, &vp09.visual)
        }
        Codec::Vp08(vp08) => {
            vp08.vpcc.encode_body(&mut record).ok()?;
            (VideoCodec::Vp8, &vp08.visual)
        }
        _ => return None,
    };
    Some(VideoConfig {
        codec,
        record: Bytes::from(record),
        width: u32::from(visual.width),
        height: u32::from(visual.height),
    })
}

/// Parses a record that can be written again: the library reads some combinations that it refuses to write.
fn read<T: Atom>(codec: &str, record: &[u8]) -> Result<T> {
    let mut rest = record;
    let atom = T::decode_body(&mut rest).map_err(|e| unreadable(codec, e))?;
    atom.encode_body(&mut Vec::new()).map_err(|e| unreadable(codec, e))?;
    Ok(atom)
}

/// Parses an `avcC` record; where only its optional tail is odd, the tail is left out.
pub(super) fn avcc(record: &[u8]) -> Result<Avcc> {
    let parse = |mut bytes: &[u8]| Avcc::decode_body(&mut bytes);
    match parse(record) {
        Ok(avcc) => Ok(avcc),
        Err(e) => {
            core_length(record).and_then(|len| parse(record.get(..len)?).ok()).ok_or_else(|| unreadable("H.264", e))
        }
    }
}

/// Bytes of an `avcC` record up to the end of its parameter sets.
fn core_length(record: &[u8]) -> Option<usize> {
    let mut at = 5;
    for mask in [0x1f, 0xff] {
        let count = record.get(at)? & mask;
        at += 1;
        for _ in 0..count {
            let len = u16::from_be_bytes([*record.get(at)?, *record.get(at + 1)?]);
            at += 2 + usize::from(len);
        }
    }
    Some(at)
}
