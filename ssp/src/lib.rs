//! Live views, kept up to date by deltas.

pub mod edge;
pub mod requery;
