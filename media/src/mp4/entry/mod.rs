//! Sample entries: codec configuration in and out of `stsd`.

mod audio;
mod picture;
mod video;

pub(crate) use audio::{audio, audio_config};
pub(crate) use picture::{announced_size, h264, size_in};
pub(crate) use video::{video, video_config};

use crest_core::Error;

fn unreadable(codec: &str, e: impl std::fmt::Display) -> Error {
    Error::user(format!("the feed's {codec} decoder configuration cannot be read ({e}); check the encoder's output"))
}
