//! One track of a file: GStreamer samples -> `MediaEvent`s.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, AudioConfig, MediaEvent, Packet, VideoCodec, VideoConfig};
use gstreamer as gst;

/// A kind of track that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    H264,
    H265,
    Aac,
}

impl Kind {
    pub(super) fn of(caps: &gst::CapsRef) -> Option<Self> {
        let structure = caps.structure(0)?;
        match structure.name().as_str() {
            "video/x-h264" => Some(Self::H264),
            "video/x-h265" => Some(Self::H265),
            "audio/mpeg" => {
                let version = structure.get::<i32>("mpegversion").unwrap_or(0);
                let format = structure.get::<String>("stream-format").unwrap_or_default();
                (matches!(version, 2 | 4) && format != "loas").then_some(Self::Aac)
            }
            _ => None,
        }
    }

    pub(super) fn media(self) -> &'static str {
        match self {
            Self::H264 | Self::H265 => "video",
            Self::Aac => "audio",
        }
    }

    pub(super) fn parser(self) -> &'static str {
        match self {
            Self::H264 => "h264parse",
            Self::H265 => "h265parse",
            Self::Aac => "aacparse",
        }
    }

    /// The framing that the rest of crest works with.
    pub(super) fn caps(self) -> gst::Caps {
        let (name, format) = match self {
            Self::H264 => ("video/x-h264", "avc"),
            Self::H265 => ("video/x-h265", "hvc1"),
            Self::Aac => return gst::Caps::builder("audio/mpeg").field("stream-format", "raw").build(),
        };
        gst::Caps::builder(name).field("stream-format", format).field("alignment", "au").build()
    }
}

/// Events with their decoding times.
pub(super) type Events = Vec<(MediaTime, MediaEvent)>;

/// Turns a track's samples into events.
pub(super) struct Converter {
    kind: Kind,
    announced: Option<MediaEvent>,
    last: Option<MediaTime>,
}

impl Converter {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, announced: None, last: None }
    }

    /// The events of one sample: its configuration where that is new, and the packet.
    pub(super) fn convert(&mut self, sample: &gst::Sample) -> Events {
        let mut events = Vec::new();
        let Some(buffer) = sample.buffer() else { return events };
        let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>());
        let at = |time: Option<gst::ClockTime>| {
            let running = segment.and_then(|s| s.to_running_time_full(time?))?;
            let nanos = |t: gst::ClockTime| i64::try_from(t.nseconds()).unwrap_or(i64::MAX);
            Some(MediaTime::from_nanos(match running {
                gst::Signed::Positive(t) => nanos(t),
                gst::Signed::Negative(t) => -nanos(t),
            }))
        };
        let (pts, dts) = (at(buffer.pts()), at(buffer.dts()));
        eprintln!("{:?} pts {:?} dts {:?} key {}", self.kind, pts, dts, !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        let Some(pts) = pts.or(dts) else { return events };
        let dts = dts.unwrap_or(pts);
        if let Some(config) = sample.caps().and_then(|caps| self.config(caps))
            && self.announced.as_ref() != Some(&config)
        {
            self.announced = Some(config.clone());
            events.push((dts, config));
        }
        let Ok(map) = buffer.map_readable() else { return events };
        let keyframe = self.kind == Kind::Aac || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let packet = Packet { pts, dts, keyframe, data: Bytes::copy_from_slice(&map) };
        self.last = Some(dts);
        let event = if self.kind == Kind::Aac { MediaEvent::Audio(packet) } else { MediaEvent::Video(packet) };
        events.push((dts, event));
        events
    }

    /// What was held back.
    pub(super) fn finish(&mut self) -> Events {
        Vec::new()
    }

    fn config(&self, caps: &gst::CapsRef) -> Option<MediaEvent> {
        let structure = caps.structure(0)?;
        let record = structure.get::<gst::Buffer>("codec_data").ok()?;
        let record = Bytes::copy_from_slice(&record.map_readable().ok()?);
        let number = |name: &str| structure.get::<i32>(name).ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let codec = match self.kind {
            Kind::H264 => VideoCodec::H264,
            Kind::H265 => VideoCodec::H265,
            Kind::Aac => {
                return Some(MediaEvent::AudioConfig(AudioConfig {
                    codec: AudioCodec::Aac,
                    record,
                    sample_rate: number("rate"),
                    channels: u16::try_from(number("channels")).unwrap_or(0),
                }));
            }
        };
        Some(MediaEvent::VideoConfig(VideoConfig { codec, record, width: number("width"), height: number("height") }))
    }
}
