//! The store on a real SQLite file, through the traits its users see.
#![allow(clippy::unwrap_used)]

mod damage;
mod events;
mod first_schema;
mod fusion;
mod jobs;
mod media;
mod prune;
mod schema;
mod streams;
mod tenants;
mod upgrade;
mod webhooks;
mod world;
