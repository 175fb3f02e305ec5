//! The bus through its trait: what every bus must hold, and what is the embedded one's own.
#![allow(clippy::unwrap_used)]

mod conformance;
mod counters;
mod embedded;
mod flaky;
mod full;
mod kafka;
mod power;
mod rings;
#[allow(dead_code)] // the tests of the whole system use more of it
#[path = "../../../tests/it/small_disk.rs"]
mod small_disk;
mod spill;
mod spill_faults;
