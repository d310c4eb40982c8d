//! Tests of `revenant-log`, a module per theme.
// Clippy knows `#[test]` functions as tests, not the helpers beside them.
#![allow(clippy::unwrap_used)]

mod archive;
mod beside;
mod chain;
mod compressed;
mod crash;
mod damage;
mod frame;
mod full;
mod golden;
mod lead;
mod life;
mod model;
mod property;
mod raw;
mod reader;
mod refuse;
mod scrub;
mod text;
