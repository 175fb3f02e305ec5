//! Audio tracks: `mp4a` for AAC and MP3, `Opus`.

use bytes::Bytes;
use crest_core::Result;
use crest_core::codec::{AudioCodec, AudioConfig};
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{Atom, Audio, Codec, Dops, Esds, FixedPoint, Mp4a, Opus};

use super::unreadable;
use crate::bitstream::opus;

/// Object types of an elementary stream (ISO/IEC 14496-1, 7.2.6.6).
const MPEG4_AUDIO: u8 = 0x40;
const MPEG2_LAYERS: u8 = 0x69;
const MPEG1_LAYERS: u8 = 0x6b;
const AUDIO_STREAM: u8 = 5;
/// The lowest rate of MPEG-1; below it the same layers are MPEG-2.
const MPEG1_LOWEST: u32 = 32_000;

/// The sample entry of an audio track. A record that does not parse is the feed's fault.
pub(crate) fn audio(config: &AudioConfig) -> Result<Codec> {
    // 16 bits cannot hold rates above 65535; readers take those from the record.
    let rate = if config.codec == AudioCodec::Opus { opus::RATE } else { config.sample_rate };
    let audio = Audio {
        data_reference_index: 1,
        channel_count: config.channels,
        sample_size: 16,
        sample_rate: FixedPoint::from(u16::try_from(rate).unwrap_or(0)),
    };
    let (object_type, specific) = match config.codec {
        AudioCodec::Opus => {
            let mut record = config.record.as_ref();
            let dops = Dops::decode_body(&mut record).map_err(|e| unreadable("Opus", e))?;
            return Ok(Opus { audio, dops, btrt: None }.into());
        }
        AudioCodec::Aac => (MPEG4_AUDIO, Some(DecoderSpecific { raw: config.record.to_vec(), ..Default::default() })),
        AudioCodec::Mp3 => (if config.sample_rate < MPEG1_LOWEST { MPEG2_LAYERS } else { MPEG1_LAYERS }, None),
    };
    let dec_config = DecoderConfig {
        object_type_indication: object_type,
        stream_type: AUDIO_STREAM,
        dec_specific: specific,
        ..Default::default()
    };
    let es_desc = EsDescriptor { dec_config, sl_config: SLConfig {}, ..Default::default() };
    Ok(Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None }.into())
}

/// The configuration in an audio sample entry; `timescale` is the track's, which is its sample rate.
pub(crate) fn audio_config(codec: &Codec, timescale: u32) -> Option<AudioConfig> {
    let (codec, record, channels) = match codec {
        Codec::Opus(opus) => {
            let mut record = Vec::new();
            opus.dops.encode_body(&mut record).ok()?;
            (AudioCodec::Opus, record, opus.audio.channel_count)
        }
        Codec::Mp4a(mp4a) => {
            let config = &mp4a.esds.es_desc.dec_config;
            match (config.object_type_indication, &config.dec_specific) {
                (MPEG1_LAYERS | MPEG2_LAYERS, _) => (AudioCodec::Mp3, Vec::new(), mp4a.audio.channel_count),
                (_, Some(specific)) => (AudioCodec::Aac, specific.raw.clone(), mp4a.audio.channel_count),
                (_, None) => return None,
            }
        }
        _ => return None,
    };
    Some(AudioConfig { codec, record: Bytes::from(record), sample_rate: timescale, channels })
}
