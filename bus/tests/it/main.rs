//! The bus through its trait: what every bus must hold, and what is the embedded one's own.
#![allow(clippy::unwrap_used)]

mod conformance;
mod counters;
mod embedded;
mod rings;
