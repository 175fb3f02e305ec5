//! Which parts of GStreamer crest works with, what each is for, and which of them are missing.

use crest_core::Result;
use gstreamer as gst;
use std::path::PathBuf;

/// How GStreamer describes a plugin whose file it could not load.
const UNLOADABLE: &str = "Plugin for blacklisted file";

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// An element, made by its factory's name.
    Element,
    /// A plugin without elements.
    Plugin,
}

/// A part of GStreamer that crest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// Its name in the registry.
    pub name: &'static str,
    /// What it is.
    pub part: Part,
    /// The Debian package that has it.
    pub package: &'static str,
    /// What is not possible without it.
    pub purpose: &'static str,
    /// Whether crest is of use without it.
    pub optional: bool,
}

const fn element(name: &'static str, package: &'static str, purpose: &'static str) -> Needed {
    Needed { name, part: Part::Element, package, purpose, optional: false }
}

const CORE: &str = "libgstreamer1.0-0";
const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";
const LIBAV: &str = "gstreamer1.0-libav";

/// All that crest uses. The containers' elements are found by `parsebin` and named nowhere else.
pub const NEEDED: [Needed; 31] = [
    element("capsfilter", CORE, "decoding"),
    element("filesrc", CORE, "files"),
    element("typefind", CORE, "recognising a file"),
    element("fakesink", CORE, "files"),
    element("audioconvert", BASE, "sound"),
    element("opusdec", BASE, "Opus sound"),
    element("audioresample", BASE, "sound"),
    element("videoconvertscale", BASE, "pictures"),
    element("appsink", BASE, "files"),
    element("parsebin", BASE, "files"),
    Needed {
        name: "typefindfunctions",
        part: Part::Plugin,
        package: BASE,
        purpose: "recognising a file",
        optional: false,
    },
    element("aacparse", GOOD, "AAC files"),
    element("mpegaudioparse", GOOD, "MP3 files"),
    element("vp8dec", GOOD, "VP8 pictures"),
    element("vp9dec", GOOD, "VP9 pictures"),
    element("qtdemux", GOOD, "MP4 files"),
    element("matroskademux", GOOD, "Matroska files"),
    element("flvdemux", GOOD, "FLV files"),
    Needed {
        name: "souphttpsrc",
        part: Part::Element,
        package: GOOD,
        purpose: "files at http(s) addresses",
        optional: true,
    },
    element("h264parse", BAD, "H.264 files"),
    element("h265parse", BAD, "H.265 files"),
    element("av1parse", BAD, "AV1 files"),
    element("vp9parse", BAD, "VP9 files"),
    element("opusparse", BAD, "Opus files"),
    element("av1dec", BAD, "AV1 pictures"),
    element("tsdemux", BAD, "MPEG-TS files"),
    element("avdec_h264", LIBAV, "H.264 pictures"),
    element("avdec_h265", LIBAV, "H.265 pictures"),
    element("avdec_aac", LIBAV, "AAC sound"),
    element("avdec_mp3", LIBAV, "MP3 sound"),
    element("avenc_mjpeg", LIBAV, "thumbnails"),
];

/// What the registry of GStreamer on this machine says.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The version of the library: major, minor, micro.
    pub version: (u32, u32, u32),
    /// What of [`NEEDED`] is not there.
    pub missing: Vec<&'static Needed>,
    /// Plugin files that are there and cannot be loaded.
    pub unloadable: Vec<PathBuf>,
}

/// Starts GStreamer and asks its registry. Like every program that starts GStreamer, this brings the
/// registry's cache in the user's cache folder up to date.
pub fn registry() -> Result<Registry> {
    crate::init()?;
    let registry = gst::Registry::get();
    let missing = NEEDED.iter().filter(|needed| match needed.part {
        // Looked up by name, not made: that would load the plugin.
        Part::Element => gst::ElementFactory::find(needed.name).is_none(),
        Part::Plugin => registry.find_plugin(needed.name).is_none(),
    });
    let unloadable = registry.plugins().into_iter().filter(|plugin| plugin.description() == UNLOADABLE);
    let (major, minor, micro, _) = gst::version();
    Ok(Registry {
        version: (major, minor, micro),
        missing: missing.collect(),
        unloadable: unloadable.filter_map(|plugin| plugin.filename()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The names in `element("...")` and `make("...")` of every source file of this crate.
    fn made(folder: &Path, names: &mut Vec<String>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                made(&path, names)?;
            } else if path != Path::new(env!("CARGO_MANIFEST_DIR")).join("src/elements.rs") {
                let text = std::fs::read_to_string(&path)?;
                for call in ["element(\"", "make(\""] {
                    names.extend(text.split(call).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn every_element_that_is_made_is_named_here() -> std::io::Result<()> {
        let mut names = Vec::new();
        made(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names)?;
        assert!(names.len() > 5, "elements are made in another way now: {names:?}");
        let unnamed: Vec<_> = names.iter().filter(|name| !NEEDED.iter().any(|n| n.name == *name)).collect();
        assert!(unnamed.is_empty(), "{unnamed:?}");
        Ok(())
    }
}
