//! Live views, kept up to date by deltas.

pub mod config;
pub mod edge;
pub mod error;
pub mod requery;
