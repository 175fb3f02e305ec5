//! GStreamer at work: demux, segment, decode, mux.

mod atomic;
pub mod bitstream;
pub mod clip;
mod coded;
pub mod decode;
mod demux;
pub mod elements;
pub mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod mp4;
mod noise;
mod salvage;
pub mod segmenter;
mod source;
pub mod thumbnail;

pub use atomic::remove_unfinished;
pub use clip::{Cut, cut};
pub use coded::{Announced, PictureHeaders};
pub use decode::{AudioDecoder, KeyframeDecoder, KeyframePool, KeyframePoolConfig, Pcm};
pub use demux::{Container, Demuxer};
pub use file::FileReader;
pub use noise::log_through_tracing;
pub use salvage::{make_durable, salvage};
pub use segmenter::{Segmenter, SegmenterConfig};
pub use thumbnail::thumbnail;

use crest_core::{Error, Result};

/// Initialises GStreamer; calling it again changes nothing.
pub fn init() -> Result<()> {
    gstreamer::init().map_err(|e| Error::outside(format!("GStreamer does not start: {e}; is it installed?")))
}
