//! The append-only truth: typed records in checksummed segments.

// The values: what a record carries.
pub mod record;
pub mod value;

// The engine: where records are kept.
pub mod seq;

pub use record::{Event, Op, Record, SourcePos, Transaction};
pub use seq::Seq;
pub use value::{Key, RecordId, Value};
