//! The store on a real SQLite file, through the traits its users see.
#![allow(clippy::unwrap_used)]

mod damage;
mod events;
mod first_schema;
mod full;
mod fusion;
mod jobs;
mod media;
mod prune;
mod schema;
#[allow(dead_code)] // the tests of the whole system use more of it
#[path = "../../../tests/it/small_disk.rs"]
mod small_disk;
mod streams;
mod tenants;
mod upgrade;
mod webhooks;
mod world;
