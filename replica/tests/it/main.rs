//! Tests of `revenant-replica` against a model in memory.

mod compare;
mod crash;
mod damage;
mod follower;
mod hashes;
mod model;
mod rows;
