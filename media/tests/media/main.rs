//! Real media through the whole crate: ffmpeg makes it, and ffmpeg and ffprobe judge what comes out.
#![allow(clippy::unwrap_used)]

mod bounds;
mod clips;
mod codecs;
mod decoding;
mod demux;
mod files;
mod salvage;
mod segments;
mod support;
