//! All that knows SurrealDB's client: connection, conversion of values, the change feed, edges, re-run
//! queries, schema. It decides nothing: when to read and what to write is said by `fanout` and `ssp`.
//!
//! - Conversion loses nothing, in either direction.
//! - Every statement's own outcome is checked; every value is bound, never formatted into SurrealQL.
//!
//! Map: [`connect`], [`convert`], [`changefeed`] (a `Source`), [`edges`] (an `EdgeSink`), [`requery`],
//! [`schema`].

pub mod changefeed;
pub mod connect;
pub mod convert;
pub mod edges;
mod patch;
pub mod requery;
pub mod schema;

pub use changefeed::{Changefeed, FeedPolicy};
pub use connect::{Db, DbError, Target};
pub use edges::Edges;
pub use requery::Rerun;
