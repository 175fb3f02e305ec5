//! The whole system, through the real program and real peers: ffmpeg, GStreamer and Chromium as publishers, the
//! Standard Webhooks packages of PyPI and npm as receivers.

mod api;
mod away;
mod broadcast;
mod chat;
mod cluster;
mod data_dir;
mod demo;
mod dev_services;
mod disk;
mod doctor;
mod downloads;
mod enhanced;
#[path = "../../ingest/tests/it/support/eventsub.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod eventsub;
mod faults;
mod feeds;
mod forward;
mod garbage;
mod harness;
mod imports;
mod keys;
mod kills;
mod ledger;
mod limits;
mod listen;
mod listening;
mod logs;
mod lossy;
mod memory;
mod moody;
mod process;
mod publish;
mod publisher;
mod pull;
mod receiver;
mod recovery;
mod restart;
mod roles;
mod rtmps;
mod scene;
mod seed;
mod server;
mod services;
mod shutdown;
mod site;
mod small_disk;
mod srt;
mod stored;
#[path = "../../ingest/tests/it/support/twitch.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod twitch;
mod verifiers;
mod whip;
