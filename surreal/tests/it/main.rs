//! Tests of `revenant-surreal` on SurrealDB embedded in this process.

mod edges;
mod feed;
mod rig;
mod schema;
mod values;
