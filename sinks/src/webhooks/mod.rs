//! Events reach the endpoints that want them: signed, in order, again until they are taken.

pub(crate) mod address;
pub(crate) mod outbox;
mod request;
mod schedule;
mod worker;

pub(crate) use worker::Worker;
