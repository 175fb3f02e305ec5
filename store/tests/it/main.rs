//! The store on real databases, through the traits its users see: `conformance/` on each of them, and what
//! only one of them can do or suffer. And `objects/`, on a real S3 server.
#![allow(clippy::unwrap_used)]
#![allow(clippy::duplicate_mod)] // the suite is written once and compiled once per database

mod objects;
mod postgres;
#[allow(dead_code)] // the tests of the whole system use more of it
#[path = "../../../tests/it/small_disk.rs"]
mod small_disk;
mod sqlite;
