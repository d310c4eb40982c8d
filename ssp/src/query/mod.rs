//! Queries: SurrealQL to our own form, what expressions are worth, and the naive evaluation that every
//! cleverer one must equal. It knows no views and no edges.

pub mod collation;
pub mod expr;
pub mod function;
pub mod ir;
pub mod naive;
pub mod parse;
pub mod rules;
