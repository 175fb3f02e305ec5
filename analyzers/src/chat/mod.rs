//! Analyzers of chat.

pub mod rate;
pub(crate) mod repeats;
