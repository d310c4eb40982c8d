//! The append-only truth: typed records in checksummed segments.

// The values: what a record carries.
pub mod order;
pub mod record;
pub mod value;

// The engine: where records are kept.
pub mod seq;

pub use order::{encode_key, encode_value};
pub use record::{
    DecodeError, Event, Op, Record, SourcePos, Transaction, decode_record, encode_parts,
    encode_record,
};
pub use seq::Seq;
pub use value::{Key, RecordId, Value};
