//! The store on a real SQLite file, through the traits its users see.
#![allow(clippy::unwrap_used)]

mod fusion;
mod jobs;
mod media;
mod schema;
mod streams;
mod tenants;
mod webhooks;
mod world;
