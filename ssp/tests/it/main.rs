//! The service from outside: a fake scheduler before it, an edge sink in memory behind it; and the engine against
//! the naive evaluation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod case;
mod config;
mod functions;
mod golden;
mod http;
mod permissions;
mod rig;
mod scheduler;
mod service;
mod sink;
mod views;
mod world;
