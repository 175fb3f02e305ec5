//! What encoded media says of itself: sizes of pictures, lengths of sound, where decoding can start, and
//! the decoder configuration records that containers want. Every read is bounded by what is given.

pub mod av1;
mod bits;
pub(crate) mod h264;
pub(crate) mod hevc;
pub mod mp3;
pub mod opus;
pub(crate) mod sound;
pub mod vpx;
