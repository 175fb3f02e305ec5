//! A line of elements driven in the caller's thread: no pipeline, no threads, no clock.

use bytes::Bytes;
use crest_core::{Error, Result};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A line of linked elements between two pads of ours. Data pushed in comes out in the same call.
pub(crate) struct Chain {
    bin: gst::Bin,
    input: gst::Pad,
    output: gst::Pad,
    segment: gst::FormattedSegment<gst::ClockTime>,
    shared: Arc<Mutex<Shared>>,
}

/// What the elements hand back while they are driven.
#[derive(Default)]
struct Shared {
    caps: Option<gst::Caps>,
    buffers: Vec<(gst::Buffer, Option<gst::Caps>)>,
    error: Option<String>,
}

/// Makes an element by its factory's name.
pub(crate) fn element(name: &str) -> Result<gst::Element> {
    crate::init()?;
    gst::ElementFactory::make(name).build().map_err(|_| {
        Error::outside(format!(
            "the GStreamer element {name} is missing; install the base, good, bad and libav plugins"
        ))
    })
}

/// An element that admits only `caps`.
pub(crate) fn filter(caps: &gst::Caps) -> Result<gst::Element> {
    let filter = element("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(filter)
}

impl Chain {
    /// Links `elements` in order, starts them and announces `caps` to the first.
    pub(crate) fn new(elements: &[gst::Element], caps: &gst::Caps) -> Result<Self> {
        crate::init()?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let bin = gst::Bin::new();
        let bus = gst::Bus::new();
        let errors = Arc::clone(&shared);
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view() {
                lock(&errors).error.get_or_insert_with(|| error.error().to_string());
            }
            gst::BusSyncReply::Drop
        });
        bin.set_bus(Some(&bus));
        let wiring = |e: gst::glib::BoolError| Error::ours(format!("decoder elements do not fit together: {e}"));
        bin.add_many(elements).map_err(wiring)?;
        gst::Element::link_many(elements).map_err(wiring)?;
        let ends =
            elements.first().and_then(|e| e.static_pad("sink")).zip(elements.last().and_then(|e| e.static_pad("src")));
        let (first, last) = ends.ok_or_else(|| Error::ours("decoder elements without pads"))?;

        let input = gst::Pad::builder(gst::PadDirection::Src).name("input").build();
        // A pad without a template takes only the caps that it has: a change in the middle would be refused.
        let (direction, presence) = (gst::PadDirection::Sink, gst::PadPresence::Always);
        let template = gst::PadTemplate::new("output", direction, presence, &gst::Caps::new_any()).map_err(wiring)?;
        let output = output_pad(&shared, &template);
        for result in [input.link(&first), last.link(&output)] {
            result.map_err(|e| Error::ours(format!("decoder pads do not fit together: {e}")))?;
        }
        let this = Self { bin, input, output, segment: gst::FormattedSegment::new(), shared };
        for pad in [&this.output, &this.input] {
            pad.set_active(true).map_err(wiring)?;
        }
        this.bin.set_state(gst::State::Playing).map_err(|e| this.reason(&format!("decoder does not start: {e}")))?;
        this.input.push_event(gst::event::StreamStart::new("crest"));
        if !this.input.push_event(gst::event::Caps::new(caps)) {
            return Err(this.reason("the decoder refuses the configuration"));
        }
        this.input.push_event(gst::event::Segment::new(&this.segment));
        Ok(this)
    }

    /// Pushes one access unit without timestamps: callers keep time themselves.
    pub(crate) fn push(&self, data: Bytes) -> Result<()> {
        self.push_buffer(gst::Buffer::from_slice(data))
    }

    /// Pushes a buffer with what it says of itself.
    pub(crate) fn push_buffer(&self, buffer: gst::Buffer) -> Result<()> {
        let pushed = self.input.push(buffer);
        // Not in the match: the lock would be held while `reason` takes it.
        let failed = lock(&self.shared).error.is_some();
        match (pushed, failed) {
            (Ok(_), false) => Ok(()),
            (Ok(_), true) => Err(self.reason("the decoder failed")),
            (Err(e), _) => Err(self.reason(&format!("the decoder failed ({e})"))),
        }
    }

    /// Makes the elements hand out all they hold back, and readies them for what follows.
    pub(crate) fn drain(&self) {
        self.input.push_event(gst::event::Eos::new());
        self.input.push_event(gst::event::FlushStart::new());
        self.input.push_event(gst::event::FlushStop::new(true));
        self.input.push_event(gst::event::Segment::new(&self.segment));
    }

    /// Buffers that have come out, each with its caps.
    pub(crate) fn take(&self) -> Vec<(gst::Buffer, Option<gst::Caps>)> {
        std::mem::take(&mut lock(&self.shared).buffers)
    }

    /// What the elements said was wrong, or else `otherwise`.
    pub(crate) fn reason(&self, otherwise: &str) -> Error {
        let said = lock(&self.shared).error.take();
        let error = Error::outside(said.map_or_else(|| otherwise.to_owned(), |said| format!("{otherwise}: {said}")));
        Error { retryable: false, ..error }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let _ = self.input.set_active(false);
        let _ = self.bin.set_state(gst::State::Null);
        let _ = self.output.set_active(false);
    }
}

/// A pad that collects what arrives.
fn output_pad(shared: &Arc<Mutex<Shared>>, template: &gst::PadTemplate) -> gst::Pad {
    let (on_data, on_event) = (Arc::clone(shared), Arc::clone(shared));
    gst::Pad::builder_from_template(template)
        .chain_function(move |_, _, buffer| {
            let mut shared = lock(&on_data);
            let caps = shared.caps.clone();
            shared.buffers.push((buffer, caps));
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |pad, parent, event| {
            if let gst::EventView::Caps(caps) = event.view() {
                lock(&on_event).caps = Some(caps.caps_owned());
            }
            gst::Pad::event_default(pad, parent, event)
        })
        .build()
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
