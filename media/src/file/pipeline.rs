//! The pipeline that reads: source, demultiplexer, a parser per track. It lives as long as its reader.

use crest_core::{Error, Result};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::sync::{Arc, Mutex, PoisonError};

use super::Source;
use super::merge::Merge;
use super::track::{Converter, Kind};

/// Seconds that an HTTP server may take to answer.
const HTTP_SECONDS: u32 = 20;
/// What is read.
const READ: &str = "H.264, H.265, AV1, VP9, VP8, AAC, Opus and MP3";

/// Tracks that were shown so far.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Kinds of media of which one is read.
    taken: Vec<&'static str>,
    /// Audio tracks that were passed by, because a later one is chosen.
    passed: u8,
}

impl Shown {
    /// How many audio tracks there are, where none of them is the one that is chosen.
    pub(super) fn without_chosen(&self) -> Option<usize> {
        (!self.taken.contains(&"audio")).then_some(usize::from(self.passed))
    }
}

/// Builds the pipeline, not started yet; it reads audio track number `audio`, and says in `shown` which tracks there
/// are. What goes wrong later arrives in `merge`.
pub(super) fn build(source: &Source, merge: &Arc<Merge>, audio: u8, shown: Arc<Mutex<Shown>>) -> Result<gst::Pipeline> {
    let pipeline = gst::Pipeline::new();
    let source = match source {
        Source::Path(path) => {
            let element = make("filesrc", "the base plugins")?;
            let path = path.to_str().ok_or_else(|| Error::user("the path is not UTF-8; rename the file"))?;
            element.set_property("location", path);
            element
        }
        Source::Address(address) => {
            let element = make("souphttpsrc", "the good plugins, or download the file first")?;
            element.set_property("location", address);
            element.set_property("timeout", HTTP_SECONDS);
            element
        }
    };
    let parse = make("parsebin", "the base plugins")?;
    let wiring = |e: gst::glib::BoolError| Error::ours(format!("the reading pipeline cannot be built: {e}"));
    pipeline.add_many([&source, &parse]).map_err(wiring)?;
    source.link(&parse).map_err(wiring)?;

    if let Some(bus) = pipeline.bus() {
        let merge = Arc::clone(merge);
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view() {
                tracing::debug!(error = %error.error(), detail = ?error.debug(), "reading failed");
                merge.fail(error.error().to_string());
            }
            gst::BusSyncReply::Drop
        });
    }
    // Its first segment begins at the track's first packet, the next one at zero: running time would put the two
    // tracks out of step. What its packets say is right.
    let on_element = Arc::clone(merge);
    pipeline.connect_deep_element_added(move |_, _, element| {
        if element.factory().is_some_and(|factory| factory.name() == "matroskademux") {
            on_element.use_plain_times();
        }
    });
    // Playlists would be followed to other addresses by elements that are not fit for it.
    parse.connect("autoplug-continue", false, |values| {
        let caps = values.get(2).and_then(|v| v.get::<gst::Caps>().ok());
        let name = caps.as_ref().and_then(|c| c.structure(0)).map(|s| s.name().to_string()).unwrap_or_default();
        let playlist = ["application/x-hls", "application/dash+xml", "application/vnd.ms-sstr+xml"];
        Some((!playlist.contains(&name.as_str())).to_value())
    });
    let (weak, on_pad) = (pipeline.downgrade(), Arc::clone(merge));
    parse.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = expose(&pipeline, pad, audio, &mut shown, &on_pad) {
            on_pad.fail(e.message);
        }
    });
    let on_unknown = Arc::clone(merge);
    parse.connect("unknown-type", false, move |values| {
        if let Some(caps) = values.get(2).and_then(|v| v.get::<gst::Caps>().ok()) {
            on_unknown.note(format!("a track is left out: nothing here reads {}", name_of(&caps)));
        }
        None
    });
    Ok(pipeline)
}

/// Connects one track, or says why not.
fn expose(pipeline: &gst::Pipeline, pad: &gst::Pad, audio: u8, shown: &mut Shown, merge: &Arc<Merge>) -> Result<()> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let kind = Kind::of(&caps);
    let refused = match kind {
        None => Some(format!("a track is left out: {} is not read; {READ} are", name_of(&caps))),
        Some(kind) if kind.media() == "audio" && shown.passed < audio => {
            shown.passed += 1;
            Some("an audio track is left out: a later one is chosen".to_owned())
        }
        Some(kind) if shown.taken.contains(&kind.media()) => {
            Some(format!("a further {} track is left out: one of each is read", kind.media()))
        }
        Some(kind) if merge.is_complete() => Some(format!("a late {} track is left out", kind.media())),
        Some(_) => None,
    };
    let wiring = |e: gst::glib::BoolError| Error::ours(format!("a track cannot be connected: {e}"));
    let elements = match (kind, refused) {
        (Some(kind), None) => {
            shown.taken.push(kind.media());
            let filter = make("capsfilter", "the base plugins")?;
            filter.set_property("caps", kind.caps());
            let parser = kind.parser().map(|parser| make(parser, "the good and bad plugins")).transpose()?;
            parser.into_iter().chain([filter, sink(kind, merge).upcast()]).collect()
        }
        (_, refused) => {
            refused.into_iter().for_each(|note| merge.note(note));
            let sink = make("fakesink", "the base plugins")?;
            sink.set_property("sync", false);
            sink.set_property("async", false);
            let merge = Arc::clone(merge);
            let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
            pad.add_probe(mask, move |_, info| {
                match info.event().map(|event| event.type_()) {
                    None => merge.discard(false),
                    Some(gst::EventType::Eos) => merge.discard(true),
                    Some(_) => {}
                }
                gst::PadProbeReturn::Ok
            });
            vec![sink]
        }
    };
    pipeline.add_many(&elements).map_err(wiring)?;
    gst::Element::link_many(&elements).map_err(wiring)?;
    for element in elements.iter().rev() {
        // Not the parent's state: while the pipeline is still on its way to playing, that would hold
        // the sink in paused for good.
        element.set_state(gst::State::Playing).map_err(|e| Error::ours(format!("a track cannot be started: {e}")))?;
    }
    let entry = elements.first().and_then(|e| e.static_pad("sink"));
    let entry = entry.ok_or_else(|| Error::ours("an element without its pad"))?;
    pad.link(&entry).map(|_| ()).map_err(|e| Error::ours(format!("a track cannot be connected: {e}")))
}

/// The end of a track: hands packets over, and waits in the pipeline's thread while the reader is behind.
fn sink(kind: Kind, merge: &Arc<Merge>) -> gst_app::AppSink {
    let track = merge.add_track();
    let (on_sample, on_end) = (Arc::clone(merge), Arc::clone(merge));
    let converter = Arc::new(Mutex::new(Converter::new(kind)));
    let at_end = Arc::clone(&converter);
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let mut converter = converter.lock().unwrap_or_else(PoisonError::into_inner);
            let events = converter.convert(&sample, on_sample.has_plain_times());
            if on_sample.put(track, events) { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Flushing) }
        })
        .eos(move |_| {
            let events = at_end.lock().unwrap_or_else(PoisonError::into_inner).finish();
            on_end.put(track, events);
            on_end.end(track);
        })
        .build();
    gst_app::AppSink::builder().sync(false).async_(false).max_buffers(4).callbacks(callbacks).build()
}

fn make(name: &str, from: &str) -> Result<gst::Element> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| Error::outside(format!("the GStreamer element {name} is missing; install {from}")))
}

fn name_of(caps: &gst::CapsRef) -> String {
    let Some(structure) = caps.structure(0) else { return "something unknown".to_owned() };
    structure.name().to_string()
}
