//! Ingest with ffmpeg as its publisher: feeds, refusals, retention, chats.
#![allow(clippy::unwrap_used)]

mod codecs;
mod door;
mod feeds;
mod hours;
mod limits;
mod logs;
mod pauses;
mod room;
mod support;
mod twitch;
mod uploads;
mod youtube;
