//! One track of a file: GStreamer samples -> `MediaEvent`s.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{MediaEvent, Packet};
use gstreamer as gst;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::unsaid::Unsaid;
use super::{access, config};
use crate::bitstream::av1;

/// A kind of track that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    H264,
    H265,
    Av1,
    Vp9,
    Vp8,
    Aac,
    Opus,
    Mp3,
}

impl Kind {
    /// The kind of a track with these caps; they may still leave open what its packets will say.
    pub(crate) fn of(caps: &gst::CapsRef) -> Option<Self> {
        match caps.structure(0)?.name().as_str() {
            "video/x-h264" => Some(Self::H264),
            "video/x-h265" => Some(Self::H265),
            "video/x-av1" => Some(Self::Av1),
            "video/x-vp9" => Some(Self::Vp9),
            "video/x-vp8" => Some(Self::Vp8),
            "audio/x-opus" => Some(Self::Opus),
            "audio/mpeg" => {
                let mp3 = gst::Caps::builder("audio/mpeg").field("mpegversion", 1_i32).field("layer", 3_i32).build();
                if caps.can_intersect(&mp3) {
                    return Some(Self::Mp3);
                }
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
            Self::H264 | Self::H265 | Self::Av1 | Self::Vp9 | Self::Vp8 => "video",
            Self::Aac | Self::Opus | Self::Mp3 => "audio",
        }
    }

    /// The element that brings packets into that framing; `None` where there is but one.
    pub(crate) fn parser(self) -> Option<&'static str> {
        match self {
            Self::H264 => Some("h264parse"),
            Self::H265 => Some("h265parse"),
            Self::Av1 => Some("av1parse"),
            Self::Vp9 => Some("vp9parse"),
            Self::Vp8 => None,
            Self::Aac => Some("aacparse"),
            Self::Opus => Some("opusparse"),
            Self::Mp3 => Some("mpegaudioparse"),
        }
    }

    /// Whether packets may be presented in another order than they are decoded in.
    fn reorders(self) -> bool {
        matches!(self, Self::H264 | Self::H265)
    }

    fn is_audio(self) -> bool {
        self.media() == "audio"
    }

    /// The framing that the rest of crest works with.
    pub(crate) fn caps(self) -> gst::Caps {
        let video = |name: &str, format: &str, alignment: &str| {
            gst::Caps::builder(name).field("stream-format", format).field("alignment", alignment).build()
        };
        match self {
            Self::H264 => video("video/x-h264", "avc", "au"),
            Self::H265 => video("video/x-h265", "hvc1", "au"),
            Self::Av1 => video("video/x-av1", "obu-stream", "tu"),
            Self::Vp9 => gst::Caps::builder("video/x-vp9").field("alignment", "super-frame").build(),
            Self::Vp8 => gst::Caps::builder("video/x-vp8").build(),
            Self::Aac => gst::Caps::builder("audio/mpeg").field("stream-format", "raw").build(),
            Self::Opus => gst::Caps::builder("audio/x-opus").build(),
            Self::Mp3 => gst::Caps::builder("audio/mpeg").field("mpegversion", 1_i32).field("layer", 3_i32).build(),
        }
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
    /// Pictures whose decoding time is known, until that of presentation is.
    unsaid: Unsaid,
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
            unsaid: Unsaid::default(),
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
        let mut data = Bytes::copy_from_slice(&map);
        if self.kind == Kind::Av1 {
            data = av1::without_delimiters(&data);
        }
        if data.is_empty() {
            return events;
        }
        let config = sample.caps().and_then(|caps| config::of(self.kind, caps, &data));
        let config = config.filter(|config| self.announced.as_ref() != Some(config));
        if config.is_some() {
            self.announced.clone_from(&config);
        }
        let keyframe = match &self.announced {
            Some(MediaEvent::VideoConfig(config)) => access::is_random_access(config, &data),
            _ => self.kind.is_audio(),
        };
        let decoded = dts.or(self.last).unwrap_or(presented);
        let packet = Packet { pts: presented, dts: decoded, keyframe, data };
        if !self.kind.reorders() {
            self.emit(config, Packet { dts: presented, ..packet }, &mut events);
        } else if *self.has_dts.get_or_insert(dts.is_some()) {
            for (config, packet) in self.unsaid.push(config, packet, pts.is_some()) {
                self.emit(config, packet, &mut events);
            }
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
        for (config, packet) in self.unsaid.finish() {
            self.emit(config, packet, &mut events);
        }
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
        events.push((dts, if self.kind.is_audio() { MediaEvent::Audio(packet) } else { MediaEvent::Video(packet) }));
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
