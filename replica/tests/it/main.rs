//! Tests of `revenant-replica` against a model in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compare;
mod crash;
mod damage;
mod disk;
mod follower;
mod hashes;
mod lease;
mod model;
mod pages;
mod proxy;
mod rebuild;
mod rows;
