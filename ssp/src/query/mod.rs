//! Queries: what of SurrealQL is accepted.

pub(crate) mod parse;
