//! Tests of `revenant-replica` against a model in memory.

mod damage;
mod hashes;
mod model;
mod rows;
