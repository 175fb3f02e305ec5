//! Ingest with ffmpeg as its publisher: feeds, refusals, retention.
#![allow(clippy::unwrap_used)]

mod codecs;
mod door;
mod feeds;
mod logs;
mod room;
mod support;
mod uploads;
