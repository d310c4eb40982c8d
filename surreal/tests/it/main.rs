//! Tests of `revenant-surreal` on SurrealDB embedded in this process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod edges;
mod expressions;
mod feed;
mod permissions;
mod rig;
mod schema;
mod values;
mod views;
