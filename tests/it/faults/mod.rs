//! Faults of a crest that is several processes on Kafka, PostgreSQL and S3: its own processes, the services,
//! the network between them. Each test plays a scene and compares the books at its end: what was accepted and
//! decided with what a receiver got, byte for byte with what follows from the log.

mod broker;
mod database;
mod faulty;
mod fencing;
mod foreign;
mod full;
mod network;
mod objects;
mod plan;
mod roles;
mod takeover;
mod world;
