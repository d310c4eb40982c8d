//! Tests of the scheduler from outside, over a simulated database.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod capture;
mod config;
mod health;
mod http;
mod rig;
mod sim;
mod snapshot;
