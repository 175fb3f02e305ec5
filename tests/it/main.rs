//! The whole system, through the real program and real peers: ffmpeg and GStreamer as publishers, the
//! Standard Webhooks packages of PyPI and npm as receivers.

mod api;
mod broadcast;
mod feeds;
mod harness;
mod imports;
mod process;
mod publish;
mod publisher;
mod receiver;
mod restart;
mod server;
mod verifiers;
