//! The API through its router, over small stores and buses in memory. The real ones are behind it in
//! the tests of the whole system.
#![allow(clippy::unwrap_used)]

mod auth;
mod bare;
mod chat;
mod document;
mod errors;
mod events;
mod fakes;
mod files;
mod links;
mod lists;
mod streams;
mod webhooks;
mod world;
