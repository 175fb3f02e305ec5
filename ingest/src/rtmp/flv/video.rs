//! Video tags: AVC as FLV has always carried it, and H.264, H.265, AV1, VP9 and VP8 as Enhanced RTMP does.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{VideoCodec, VideoConfig};
use crest_media::bitstream::{av1, vpx};

use super::enhanced::{self, COMMAND, FourCc};
use super::records::{avc_length_size, hevc_length_size, nal_units_fit};
use super::{Read, Skip, TagKind, TagParser};

/// `CodecID` of H.264.
const AVC: u8 = 7;
/// `IsExHeader`, in a tag's first byte.
const ENHANCED: u8 = 0x80;

// `VideoPacketType` of Enhanced RTMP.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const SEQUENCE_END: u8 = 2;
const CODED_FRAMES_X: u8 = 3;
const METADATA: u8 = 4;
const TRANSPORT_STREAM_START: u8 = 5;

/// How a codec's access units lie in their packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// NAL units, each with its length before it, of so many bytes.
    Nal(usize),
    /// Open bitstream units of AV1.
    Units,
    /// Frames of VP9 or VP8.
    Frames,
}

impl TagParser {
    pub(super) fn video(&mut self, body: &Bytes) -> Result<(Read, u32), Skip> {
        let first = body.first().copied().ok_or(Skip::Empty)?;
        if first & ENHANCED != 0 {
            return self.enhanced_video(first >> 4 & 7, body);
        }
        let (frame_type, codec) = (first >> 4, first & 0x0f);
        if frame_type == COMMAND {
            return Err(Skip::NotMedia);
        }
        if codec != AVC {
            return Err(Skip::UnsupportedCodec);
        }
        if self.chosen.video != 0 {
            self.passed_by.note(TagKind::Video, 0);
            return Err(Skip::OtherTrack);
        }
        let &[_, packet_type, c0, c1, c2, ..] = body.as_ref() else { return Err(Skip::Truncated) };
        let read = match packet_type {
            0 => configuration(VideoCodec::H264, body.slice(5..))?,
            1 => self.picture(VideoCodec::H264, frame_type, [c0, c1, c2], body.slice(5..))?,
            2 => return Err(Skip::NotMedia),
            _ => return Err(Skip::Malformed),
        };
        Ok((read, 0))
    }

    fn enhanced_video(&mut self, frame_type: u8, body: &Bytes) -> Result<(Read, u32), Skip> {
        let track = enhanced::read(TagKind::Video, frame_type, body, self.chosen.video, &mut self.passed_by)?;
        if matches!(track.packet, SEQUENCE_END | METADATA) {
            return Err(Skip::NotMedia);
        }
        let codec = codec(track.codec).ok_or(Skip::UnsupportedCodec)?;
        let read = match track.packet {
            SEQUENCE_START => configuration(codec, track.data)?,
            CODED_FRAMES if matches!(codec, VideoCodec::H264 | VideoCodec::H265) => {
                let &[c0, c1, c2, ..] = track.data.as_ref() else { return Err(Skip::Truncated) };
                self.picture(codec, frame_type, [c0, c1, c2], track.data.slice(3..))?
            }
            CODED_FRAMES | CODED_FRAMES_X => self.picture(codec, frame_type, [0; 3], track.data)?,
            TRANSPORT_STREAM_START => return Err(Skip::TransportStream),
            _ => return Err(Skip::Malformed),
        };
        Ok((read, track.nanos))
    }

    fn picture(&self, codec: VideoCodec, frame_type: u8, [c0, c1, c2]: [u8; 3], mut data: Bytes) -> Result<Read, Skip> {
        let (_, framing) =
            self.video.as_ref().filter(|(config, _)| config.codec == codec).ok_or(Skip::NoConfiguration)?;
        if data.is_empty() {
            return Err(Skip::Empty);
        }
        match framing {
            Framing::Nal(length_size) if !nal_units_fit(&data, *length_size) => return Err(Skip::Malformed),
            Framing::Units if !av1::is_chain(&data) => return Err(Skip::Malformed),
            Framing::Units => data = av1::without_delimiters(&data),
            Framing::Nal(_) | Framing::Frames => {}
        }
        if data.is_empty() {
            return Err(Skip::Empty);
        }
        // A signed 24-bit number of milliseconds.
        let composition = i32::from_be_bytes([c0, c1, c2, 0]) >> 8;
        let keyframe = frame_type == 1 || frame_type == 4;
        Ok(Read::Video(MediaTime::from_millis(i64::from(composition)), keyframe, data))
    }
}

fn codec(four: FourCc) -> Option<VideoCodec> {
    match &four {
        b"avc1" => Some(VideoCodec::H264),
        b"hvc1" => Some(VideoCodec::H265),
        b"av01" => Some(VideoCodec::Av1),
        b"vp09" => Some(VideoCodec::Vp9),
        b"vp08" => Some(VideoCodec::Vp8),
        _ => None,
    }
}

/// Checks a record as far as others rely on it.
fn configuration(codec: VideoCodec, record: Bytes) -> Result<Read, Skip> {
    let (record, framing) = match codec {
        VideoCodec::H264 => {
            let length = avc_length_size(&record).ok_or(Skip::Malformed)?;
            (record, Framing::Nal(length))
        }
        VideoCodec::H265 => {
            let length = hevc_length_size(&record).ok_or(Skip::Malformed)?;
            (record, Framing::Nal(length))
        }
        VideoCodec::Av1 => {
            (Some(record).filter(|record| av1::is_record(record)).ok_or(Skip::Malformed)?, Framing::Units)
        }
        VideoCodec::Vp9 | VideoCodec::Vp8 => (vpx::record(&record).ok_or(Skip::Malformed)?, Framing::Frames),
    };
    Ok(Read::VideoConfig(VideoConfig { codec, record, width: 0, height: 0 }, framing))
}
