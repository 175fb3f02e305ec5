//! Feeds that crest pulls: real playlists by ffmpeg, GStreamer's RTSP server, nginx, streamlink.

mod faults;
mod hls;
mod origin;
mod pages;
mod sources;
mod stage;
