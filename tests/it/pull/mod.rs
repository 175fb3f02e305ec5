//! Feeds that crest pulls: real playlists by ffmpeg, GStreamer's RTSP server, nginx, streamlink.

mod encrypted;
mod faults;
mod hls;
mod low_latency;
pub mod origin;
mod pages;
mod sources;
mod stage;
mod twitch;
