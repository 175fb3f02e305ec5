//! The words every stage of crest speaks: ids, media time, samples, signals, highlights, events and
//! states, and the traits through which stages reach what `crest` injects (bus, store).
//!
//! This crate does no I/O and reads no clock.

pub mod address;
pub mod bus;
pub mod chat;
pub mod codec;
pub mod control;
pub mod crash;
pub mod crowd;
pub mod error;
pub mod event;
pub mod feeds;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod highlight;
pub mod id;
pub mod instance;
mod ipc;
pub mod job;
pub mod key;
pub mod object;
pub mod objects;
pub mod sample;
pub mod segment;
pub mod signal;
pub mod space;
pub mod store;
pub mod stream;
pub mod time;
pub mod topic;
pub mod trace;
pub mod units;
pub mod view;
pub mod webhook;

pub use error::{Error, Fault, Result};
pub use id::{EndpointId, EventId, HighlightId, JobId, OrganizationId, StreamId, WebhookId};
pub use time::{BUCKET_NANOS, Bucket, MediaTime, Session, WallTime};
