//! Feeds that crest pulls: real playlists by ffmpeg and GStreamer, GStreamer's RTSP server, nginx, streamlink, yt-dlp.

mod cameras;
mod encrypted;
mod faults;
mod gstreamer;
mod hls;
mod low_latency;
mod nginx;
pub mod origin;
mod pages;
mod sources;
pub mod stage;
mod twitch;
