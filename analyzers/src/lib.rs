//! Samples become signals. An analyzer measures one thing and emits values for fixed buckets of media
//! time; comparison with the past is fusion's.
//!
//! To add one: a file that implements [`Analyzer`], and one line in [`all`].

pub mod audio;
mod buckets;
pub mod chat;
pub mod session;
pub mod vision;

pub use buckets::Values;
pub use session::SessionAnalyzers;

use crest_core::chat::ChatMessage;
use crest_core::sample::{AudioWindow, VideoBatch};

/// Measures something on the samples of one session. It keeps seconds of state.
pub trait Analyzer: Send {
    /// Takes frames, in decoding order.
    fn video(&mut self, _batch: &VideoBatch, _values: &mut Values) {}
    /// Takes sound, in order; a window never crosses a bucket boundary.
    fn audio(&mut self, _window: &AudioWindow, _values: &mut Values) {}
    /// Takes a chat message; later ones may have been written earlier.
    fn chat(&mut self, _message: &ChatMessage, _values: &mut Values) {}
}

/// One of each analyzer, for a new session.
pub fn all() -> Vec<Box<dyn Analyzer>> {
    vec![
        Box::new(audio::loudness::Loudness::default()),
        Box::new(audio::onset::Onset::default()),
        Box::new(vision::activity::Activity),
        Box::new(vision::change::Change::default()),
        Box::new(chat::rate::Rate::default()),
    ]
}
