//! One track of a file: GStreamer samples -> `MediaEvent`s.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, AudioConfig, MediaEvent, Packet, VideoCodec, VideoConfig};
use gstreamer as gst;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::access;

/// A kind of track that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    H264,
    H265,
    Aac,
}

impl Kind {
    /// The kind of a track with these caps; they may still leave open what its packets will say.
    pub(crate) fn of(caps: &gst::CapsRef) -> Option<Self> {
        match caps.structure(0)?.name().as_str() {
            "video/x-h264" => Some(Self::H264),
            "video/x-h265" => Some(Self::H265),
            "audio/mpeg" => {
                let aac = gst::Caps::builder("audio/mpeg")
                    .field("mpegversion", gst::List::new([2_i32, 4]))
                    .field("stream-format", gst::List::new(["raw", "adts", "adif"]))
                    .build();
                caps.can_intersect(&aac).then_some(Self::Aac)
            }
            _ => None,
        }
    }

    pub(crate) fn media(self) -> &'static str {
        match self {
            Self::H264 | Self::H265 => "video",
            Self::Aac => "audio",
        }
    }

    pub(crate) fn parser(self) -> &'static str {
        match self {
            Self::H264 => "h264parse",
            Self::H265 => "h265parse",
            Self::Aac => "aacparse",
        }
    }

    /// The framing that the rest of crest works with.
    pub(crate) fn caps(self) -> gst::Caps {
        let (name, format) = match self {
            Self::H264 => ("video/x-h264", "avc"),
            Self::H265 => ("video/x-h265", "hvc1"),
            Self::Aac => return gst::Caps::builder("audio/mpeg").field("stream-format", "raw").build(),
        };
        gst::Caps::builder(name).field("stream-format", format).field("alignment", "au").build()
    }
}

/// Events with their decoding times.
pub(crate) type Events = Vec<(MediaTime, MediaEvent)>;

/// Frames that are looked at to find decoding times which the container does not say: H.264 allows 16 in between.
const WINDOW: usize = 17;

/// Turns a track's samples into events.
pub(crate) struct Converter {
    kind: Kind,
    announced: Option<MediaEvent>,
    last: Option<MediaTime>,
    /// Whether the container says decoding times; known from the first packet on.
    has_dts: Option<bool>,
    held: VecDeque<(Option<MediaEvent>, Packet)>,
    /// Presentation times of what is held, smallest first.
    times: BinaryHeap<Reverse<MediaTime>>,
    /// How long before presentation decoding must happen.
    delay: Option<MediaTime>,
}

impl Converter {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            announced: None,
            last: None,
            has_dts: None,
            held: VecDeque::new(),
            times: BinaryHeap::new(),
            delay: None,
        }
    }

    /// The events of one sample: its configuration where that is new, and the packet. `plain` times are taken as
    /// they stand, others as the sample's segment places them.
    pub(crate) fn convert(&mut self, sample: &gst::Sample, plain: bool) -> Events {
        let mut events = Events::new();
        let Some(buffer) = sample.buffer() else { return events };
        let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>()).filter(|_| !plain);
        let (pts, dts) = (placed(buffer.pts(), segment), placed(buffer.dts(), segment));
        let Some(presented) = pts.or(dts).or(self.last) else { return events };
        let Ok(map) = buffer.map_readable() else { return events };
        let config = sample.caps().and_then(|caps| self.config(caps));
        let config = config.filter(|config| self.announced.as_ref() != Some(config));
        if config.is_some() {
            self.announced.clone_from(&config);
        }
        let keyframe = match &self.announced {
            Some(MediaEvent::VideoConfig(config)) => access::is_random_access(config, &map),
            _ => self.kind == Kind::Aac,
        };
        let decoded = dts.or(self.last).unwrap_or(presented);
        let packet = Packet { pts: presented, dts: decoded, keyframe, data: Bytes::copy_from_slice(&map) };
        if self.kind == Kind::Aac || *self.has_dts.get_or_insert(dts.is_some()) {
            let dts = if self.kind == Kind::Aac { presented } else { decoded };
            self.emit(config, Packet { dts, ..packet }, &mut events);
        } else {
            self.times.push(Reverse(presented));
            self.held.push_back((config, packet));
            if self.held.len() >= WINDOW {
                self.release(&mut events);
            }
        }
        events
    }

    /// What was held back.
    pub(crate) fn finish(&mut self) -> Events {
        let mut events = Events::new();
        while !self.held.is_empty() {
            self.release(&mut events);
        }
        events
    }

    /// Hands out the first held frame. Frames are decoded in the order in which they come, at the times at which
    /// frames are presented, early enough that none is presented before.
    fn release(&mut self, events: &mut Events) {
        let delay = *self.delay.get_or_insert_with(|| {
            let mut times: Vec<MediaTime> = self.held.iter().map(|(_, packet)| packet.pts).collect();
            times.sort_unstable();
            let late = times.iter().zip(&self.held).map(|(time, (_, packet))| *time - packet.pts);
            late.max().unwrap_or_default().max(MediaTime::ZERO)
        });
        if let (Some((config, packet)), Some(Reverse(time))) = (self.held.pop_front(), self.times.pop()) {
            self.emit(config, Packet { dts: time - delay, ..packet }, events);
        }
    }

    fn emit(&mut self, config: Option<MediaEvent>, packet: Packet, events: &mut Events) {
        let dts = packet.dts;
        self.last = Some(dts);
        events.extend(config.map(|config| (dts, config)));
        events.push((dts, if self.kind == Kind::Aac { MediaEvent::Audio(packet) } else { MediaEvent::Video(packet) }));
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

/// A timestamp as its segment places it, or as it stands where there is none.
fn placed(time: Option<gst::ClockTime>, segment: Option<&gst::FormattedSegment<gst::ClockTime>>) -> Option<MediaTime> {
    let nanos = |t: gst::ClockTime| i64::try_from(t.nseconds()).unwrap_or(i64::MAX);
    let time = time?;
    let Some(segment) = segment else { return Some(MediaTime::from_nanos(nanos(time))) };
    Some(MediaTime::from_nanos(match segment.to_running_time_full(time)? {
        gst::Signed::Positive(t) => nanos(t),
        gst::Signed::Negative(t) => -nanos(t),
    }))
}
