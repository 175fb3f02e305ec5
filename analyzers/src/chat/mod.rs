//! Analyzers of chat.

pub mod rate;
