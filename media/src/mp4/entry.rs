//! Sample entries: codec configuration in and out of `stsd`.

use bytes::Bytes;
use crest_core::codec::{AudioCodec, AudioConfig, VideoCodec, VideoConfig};
use crest_core::{Error, Result};
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{Atom, Audio, Avc1, Avcc, Codec, Esds, FixedPoint, Hvc1, Hvcc, Mp4a, Visual};

use super::sps::{self, Sps};

const MPEG4_AUDIO: u8 = 0x40;
const AUDIO_STREAM: u8 = 5;

/// Fills in width and height from the H.264 parameter sets where the feed did not say them.
pub(crate) fn with_dimensions(mut config: VideoConfig) -> VideoConfig {
    if config.codec == VideoCodec::H264
        && (config.width == 0 || config.height == 0)
        && let Some(size) = h264(&config.record).and_then(|sps| sps.size)
    {
        (config.width, config.height) = size;
    }
    config
}

/// What the first parameter set of an `avcC` record says.
pub(crate) fn h264(record: &[u8]) -> Option<Sps> {
    avcc(record).ok()?.sequence_parameter_sets.first().and_then(|nal| sps::parse(nal))
}

/// The sample entry of a video track. A record that does not parse is the feed's fault.
pub(crate) fn video(config: &VideoConfig) -> Result<Codec> {
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    let visual = Visual {
        data_reference_index: 1,
        width: side(config.width),
        height: side(config.height),
        ..Default::default()
    };
    Ok(match config.codec {
        VideoCodec::H264 => Avc1 { visual, avcc: avcc(&config.record)?, ..Default::default() }.into(),
        VideoCodec::H265 => {
            let mut record = config.record.as_ref();
            let hvcc = Hvcc::decode_body(&mut record).map_err(|e| unreadable("H.265", &e))?;
            Hvc1 { visual, hvcc, ..Default::default() }.into()
        }
        VideoCodec::Av1 | VideoCodec::Vp9 | VideoCodec::Vp8 => return Err(not_kept(config.codec)),
    })
}

/// The sample entry of an audio track.
pub(crate) fn audio(config: &AudioConfig) -> Codec {
    let record = config.record.to_vec();
    let specific = DecoderSpecific { raw: record, ..Default::default() };
    Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: config.channels,
            sample_size: 16,
            // 16 bits cannot hold rates above 65535; readers take those from the record.
            sample_rate: FixedPoint::from(u16::try_from(config.sample_rate).unwrap_or(0)),
        },
        esds: Esds {
            es_desc: EsDescriptor {
                dec_config: DecoderConfig {
                    object_type_indication: MPEG4_AUDIO,
                    stream_type: AUDIO_STREAM,
                    dec_specific: Some(specific),
                    ..Default::default()
                },
                sl_config: SLConfig {},
                ..Default::default()
            },
        },
        btrt: None,
        taic: None,
    }
    .into()
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
        _ => return None,
    };
    Some(VideoConfig {
        codec,
        record: Bytes::from(record),
        width: u32::from(visual.width),
        height: u32::from(visual.height),
    })
}

/// The configuration in an audio sample entry; `timescale` is the track's, which is its sample rate.
pub(crate) fn audio_config(codec: &Codec, timescale: u32) -> Option<AudioConfig> {
    let Codec::Mp4a(mp4a) = codec else { return None };
    let specific = mp4a.esds.es_desc.dec_config.dec_specific.as_ref()?;
    Some(AudioConfig {
        codec: AudioCodec::Aac,
        record: Bytes::from(specific.raw.clone()),
        sample_rate: timescale,
        channels: mp4a.audio.channel_count,
    })
}

/// Parses an `avcC` record; where only its optional tail is odd, the tail is left out.
fn avcc(record: &[u8]) -> Result<Avcc> {
    let parse = |mut bytes: &[u8]| Avcc::decode_body(&mut bytes);
    match parse(record) {
        Ok(avcc) => Ok(avcc),
        Err(e) => {
            core_length(record).and_then(|len| parse(record.get(..len)?).ok()).ok_or_else(|| unreadable("H.264", &e))
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

fn not_kept(codec: VideoCodec) -> Error {
    Error::user(format!("{codec:?} cannot be stored by this version; set the encoder to H.264 or H.265"))
}

fn unreadable(codec: &str, e: &mp4_atom::Error) -> Error {
    Error::user(format!("the feed's {codec} decoder configuration cannot be read ({e}); check the encoder's output"))
}
