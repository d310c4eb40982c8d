//! What histories promise to those who play them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod generate;
mod history;
