//! Ingest with ffmpeg as its publisher: feeds, refusals, retention.
#![allow(clippy::unwrap_used)]

mod door;
mod feeds;
mod limits;
mod logs;
mod room;
mod support;
mod uploads;
