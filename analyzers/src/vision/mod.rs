//! Analyzers of pictures and of encoded frame sizes.

pub mod activity;
pub mod change;
