//! Audio tags: AAC and MP3 as FLV has always carried them, and AAC, Opus and MP3 as Enhanced RTMP does.

use bytes::Bytes;
use crest_core::codec::{AudioCodec, AudioConfig};
use crest_media::bitstream::{mp3, opus};

use super::enhanced::{self, FourCc};
use super::records::aac_format;
use super::{Read, Skip, TagKind, TagParser};

// `SoundFormat`, in a tag's first byte.
const MP3: u8 = 2;
const ENHANCED: u8 = 9;
const AAC: u8 = 10;
const MP3_8_KHZ: u8 = 14;

// `AudioPacketType` of Enhanced RTMP.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const SEQUENCE_END: u8 = 2;
const MULTICHANNEL_CONFIG: u8 = 4;

impl TagParser {
    pub(super) fn audio(&mut self, body: &Bytes) -> Result<(Read, u32), Skip> {
        let first = body.first().copied().ok_or(Skip::Empty)?;
        let format = first >> 4;
        match format {
            ENHANCED => return self.enhanced_audio(body),
            AAC | MP3 | MP3_8_KHZ if self.chosen.audio != 0 => {
                self.passed_by.note(TagKind::Audio, 0);
                Err(Skip::OtherTrack)
            }
            AAC => match body.get(1) {
                Some(0) => configuration(AudioCodec::Aac, &body.slice(2..)),
                Some(1) => self.sound(AudioCodec::Aac, body.slice(2..)),
                Some(_) => Err(Skip::Malformed),
                None => Err(Skip::Truncated),
            },
            MP3 | MP3_8_KHZ => self.sound(AudioCodec::Mp3, body.slice(1..)),
            _ => Err(Skip::UnsupportedCodec),
        }
        .map(|read| (read, 0))
    }

    fn enhanced_audio(&mut self, body: &Bytes) -> Result<(Read, u32), Skip> {
        let track = enhanced::read(TagKind::Audio, 0, body, self.chosen.audio, &mut self.passed_by)?;
        if matches!(track.packet, SEQUENCE_END | MULTICHANNEL_CONFIG) {
            return Err(Skip::NotMedia);
        }
        let codec = codec(track.codec).ok_or(Skip::UnsupportedCodec)?;
        let read = match track.packet {
            SEQUENCE_START => configuration(codec, &track.data)?,
            CODED_FRAMES => self.sound(codec, track.data)?,
            _ => return Err(Skip::Malformed),
        };
        Ok((read, track.nanos))
    }

    fn sound(&self, codec: AudioCodec, data: Bytes) -> Result<Read, Skip> {
        if data.is_empty() {
            return Err(Skip::Empty);
        }
        if codec == AudioCodec::Mp3 {
            let mp3::Frame { sample_rate, channels, .. } = mp3::frame(&data).ok_or(Skip::Malformed)?;
            return Ok(Read::SelfSaying(AudioConfig { codec, record: Bytes::new(), sample_rate, channels }, data));
        }
        if self.audio.as_ref().is_none_or(|config| config.codec != codec) {
            return Err(Skip::NoConfiguration);
        }
        Ok(Read::Audio(data))
    }
}

fn codec(four: FourCc) -> Option<AudioCodec> {
    match &four {
        b"mp4a" => Some(AudioCodec::Aac),
        b"Opus" => Some(AudioCodec::Opus),
        b".mp3" => Some(AudioCodec::Mp3),
        _ => None,
    }
}

/// Checks a record as far as others rely on it.
fn configuration(codec: AudioCodec, record: &Bytes) -> Result<Read, Skip> {
    let (record, sample_rate, channels) = match codec {
        AudioCodec::Aac => {
            let (sample_rate, channels) = aac_format(record).ok_or(Skip::Malformed)?;
            (record.clone(), sample_rate, channels)
        }
        AudioCodec::Opus => {
            let record = opus::record_of_head(record).ok_or(Skip::Malformed)?;
            let channels = opus::channels_of(&record).ok_or(Skip::Malformed)?;
            (record, opus::RATE, channels)
        }
        // Each frame says everything.
        AudioCodec::Mp3 => return Err(Skip::NotMedia),
    };
    Ok(Read::AudioConfig(AudioConfig { codec, record, sample_rate, channels }))
}
