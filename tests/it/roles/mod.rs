//! Roles in processes of their own: what they do together, where a feed moves from one to another or is left
//! behind, and how a process starts while what it needs is away, or will never be.

mod elsewhere;
mod feeds;
mod starts;
mod together;
