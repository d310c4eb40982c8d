//! Tests of the binary as users run it: processes, their answers, their ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![cfg(target_os = "linux")]

mod demo;
mod rig;
mod waiting;
