//! One elementary stream: pieces of it -> access units, by GStreamer's parser for its codec.

use crest_core::codec::MediaEvent;
use crest_core::{MediaTime, Result};
use gstreamer as gst;

use crate::decode::chain::{Chain, element, filter};
use crate::file::{Converter, Kind};

/// Where the timeline of the parsers begins: GStreamer has no time before zero, and a stream may go back a little
/// from where it began.
const ORIGIN: MediaTime = MediaTime::from_millis(24 * 3_600_000);

/// The largest access unit, in bytes; pictures that wait to be put in order are within it, too.
const LONGEST_UNIT: usize = 48 << 20;

/// A piece of an elementary stream, with times that hold for the first access unit that begins in it.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) kind: Kind,
    pub(super) pts: Option<MediaTime>,
    pub(super) dts: Option<MediaTime>,
    pub(super) data: Vec<u8>,
}

/// An elementary stream and its parser.
pub(super) struct Track {
    kind: Kind,
    chain: Chain,
    converter: Converter,
    /// Bytes that went in since something came out.
    held: usize,
    /// What a stream's first time lies after [`ORIGIN`].
    base: Option<MediaTime>,
}

impl Track {
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let caps = match kind {
            Kind::H264 => gst::Caps::builder("video/x-h264")
                .field("stream-format", "byte-stream")
                .field("alignment", "nal")
                .build(),
            Kind::H265 => gst::Caps::builder("video/x-h265")
                .field("stream-format", "byte-stream")
                .field("alignment", "nal")
                .build(),
            Kind::Aac => {
                gst::Caps::builder("audio/mpeg").field("mpegversion", 4_i32).field("stream-format", "adts").build()
            }
            other => other.caps(),
        };
        let mut elements = Vec::new();
        if let Some(parser) = kind.parser() {
            elements.push(element(parser)?);
        }
        elements.push(filter(&kind.caps())?);
        let chain = Chain::new(&elements, &caps)?;
        Ok(Self { kind, chain, converter: Converter::new(kind), held: 0, base: None })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Takes a piece, and appends the access units that are complete by it.
    pub(super) fn push(&mut self, unit: Unit, events: &mut Vec<MediaEvent>) -> Result<()> {
        if let Some(first) = unit.dts.or(unit.pts) {
            self.base.get_or_insert(first);
        }
        let base = self.base.unwrap_or_default();
        let placed = |time: Option<MediaTime>| {
            let nanos = u64::try_from((time? - base + ORIGIN).nanos()).ok()?;
            Some(gst::ClockTime::from_nseconds(nanos))
        };
        self.held += unit.data.len();
        let mut buffer = gst::Buffer::from_mut_slice(unit.data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(placed(unit.pts));
            buffer.set_dts(placed(unit.dts.or(unit.pts)));
        }
        let before = events.len();
        let pushed = self.chain.push_buffer(buffer);
        self.collect(events);
        if events.len() > before {
            self.held = 0;
        }
        pushed
    }

    /// Whether the parser collects without end: an access unit that never ends is none.
    pub(super) fn is_overlong(&self) -> bool {
        self.held > LONGEST_UNIT
    }

    /// What the parser holds back.
    pub(super) fn finish(mut self, events: &mut Vec<MediaEvent>) {
        self.chain.drain();
        self.collect(events);
        let held = self.converter.finish();
        events.extend(held.into_iter().map(|(_, event)| self.unplaced(event)));
    }

    fn collect(&mut self, events: &mut Vec<MediaEvent>) {
        for (buffer, caps) in self.chain.take() {
            let sample = gst::Sample::builder().buffer(&buffer);
            let sample = if let Some(caps) = &caps { sample.caps(caps) } else { sample }.build();
            let converted = self.converter.convert(&sample, true);
            events.extend(converted.into_iter().map(|(_, event)| self.unplaced(event)));
        }
    }

    fn unplaced(&self, event: MediaEvent) -> MediaEvent {
        let base = self.base.unwrap_or_default();
        let back = |mut packet: crest_core::codec::Packet| {
            packet.pts = packet.pts - ORIGIN + base;
            packet.dts = packet.dts - ORIGIN + base;
            packet
        };
        match event {
            MediaEvent::Video(packet) => MediaEvent::Video(back(packet)),
            MediaEvent::Audio(packet) => MediaEvent::Audio(back(packet)),
            config => config,
        }
    }
}
