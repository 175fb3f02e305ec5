//! Garbage: whatever arrives, there is a clear error or a counted drop, the process and the other streams
//! go on, and memory stays bounded.

pub mod client;
mod connections;
mod files;
mod http;
mod media;
pub mod stage;
