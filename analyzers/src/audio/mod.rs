//! Analyzers of sound.

pub mod loudness;
pub mod onset;
