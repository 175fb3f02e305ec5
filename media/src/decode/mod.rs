//! Decoding without pipelines: libavcodec, and elements driven in the caller's thread.

mod audio;
pub(crate) mod chain;
mod keyframes;
mod libav;
mod pool;
mod video;

pub use audio::{AudioDecoder, Pcm};
pub use keyframes::KeyframeDecoder;
pub use pool::{KeyframePool, KeyframePoolConfig};

pub(crate) use video::{Output, VideoDecoder};
