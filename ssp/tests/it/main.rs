//! The service from outside: a fake scheduler before it, an edge sink in memory behind it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod config;
mod http;
mod rig;
mod scheduler;
mod service;
mod sink;
