//! A track's decoder configuration, from its caps and its packets.

use bytes::Bytes;
use crest_core::codec::{AudioCodec, AudioConfig, MediaEvent, VideoCodec, VideoConfig};
use gstreamer as gst;

use super::track::Kind;
use crate::bitstream::{av1, mp3, opus, vpx};

/// The configuration as caps and packet say it; `None` where neither does, so that the one before still holds.
pub(super) fn of(kind: Kind, caps: &gst::CapsRef, packet: &[u8]) -> Option<MediaEvent> {
    let structure = caps.structure(0)?;
    match kind {
        Kind::H264 => Some(video(structure, VideoCodec::H264, codec_data(structure)?)),
        Kind::H265 => Some(video(structure, VideoCodec::H265, codec_data(structure)?)),
        // Not `codec_data`: that of `qtdemux` (1.22) lacks its first bytes.
        Kind::Av1 => Some(video(structure, VideoCodec::Av1, av1::record(packet)?)),
        Kind::Vp9 => Some(vpx_video(VideoCodec::Vp9, vpx::vp9(packet)?)),
        Kind::Vp8 => Some(vpx_video(VideoCodec::Vp8, vpx::vp8(packet)?)),
        Kind::Aac => {
            let (record, sample_rate) = (codec_data(structure)?, number(structure, "rate"));
            let channels = u16::try_from(number(structure, "channels")).unwrap_or(0);
            Some(MediaEvent::AudioConfig(AudioConfig { codec: AudioCodec::Aac, record, sample_rate, channels }))
        }
        Kind::Opus => {
            let record = opus_record(structure);
            let channels = opus::channels_of(&record)?;
            Some(MediaEvent::AudioConfig(AudioConfig {
                codec: AudioCodec::Opus,
                record,
                sample_rate: opus::RATE,
                channels,
            }))
        }
        Kind::Mp3 => {
            let mp3::Frame { sample_rate, channels, .. } = mp3::frame(packet)?;
            let record = Bytes::new();
            Some(MediaEvent::AudioConfig(AudioConfig { codec: AudioCodec::Mp3, record, sample_rate, channels }))
        }
    }
}

fn video(structure: &gst::StructureRef, codec: VideoCodec, record: Bytes) -> MediaEvent {
    let (width, height) = (number(structure, "width"), number(structure, "height"));
    MediaEvent::VideoConfig(VideoConfig { codec, record, width, height })
}

fn vpx_video(codec: VideoCodec, keyframe: vpx::Keyframe) -> MediaEvent {
    let (width, height) = (keyframe.width, keyframe.height);
    MediaEvent::VideoConfig(VideoConfig { codec, record: keyframe.record(), width, height })
}

/// What the stream's header says, or what mono and stereo need.
fn opus_record(structure: &gst::StructureRef) -> Bytes {
    let head = structure.get::<gst::ArrayRef<'_>>("streamheader").ok().and_then(|headers| {
        let head = headers.as_slice().first()?.get::<gst::Buffer>().ok()?;
        opus::record_of_head(&head.map_readable().ok()?)
    });
    head.unwrap_or_else(|| opus::record(u8::try_from(number(structure, "channels")).unwrap_or(2)))
}

fn codec_data(structure: &gst::StructureRef) -> Option<Bytes> {
    let record = structure.get::<gst::Buffer>("codec_data").ok()?;
    Some(Bytes::copy_from_slice(&record.map_readable().ok()?))
}

fn number(structure: &gst::StructureRef, name: &str) -> u32 {
    structure.get::<i32>(name).ok().and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}
