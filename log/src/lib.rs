//! The append-only truth: typed records in checksummed segments.
//!
//! - An append is acknowledged only when it is on disk; a transaction is seen whole or not at all.
//! - Seqs are contiguous from 1 and never reused.
//! - Each seq has a hash of all records up to it, the same in every log that holds the same.
//! - Damage below what was acknowledged is refused at open, with file, offset and seq; a torn group
//!   above it is copied aside and cut.
//!
//! ```
//! use std::sync::Arc;
//! use revenant_log::{Event, Key, Log, LogConfig, Op, Seq, SourcePos, Transaction, Value, Witnesses};
//!
//! # let dir = std::env::temp_dir().join(format!("revenant-doc-{}", std::process::id()));
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let (log, report) = Log::open(LogConfig::new(&dir), Witnesses::none())?;
//! assert!(report.clean);
//! let event = Event {
//!     op: Op::Create,
//!     table: Arc::from("person"),
//!     key: Key::from("ada"),
//!     version: Some(1),
//!     body: Some(Value::Object([("born".to_owned(), Value::Int(1815))].into())),
//!     before: None,
//!     source: SourcePos::UNKNOWN,
//!     stale: false,
//! };
//! let transaction = Transaction { time_us: 0, feed_high: 0, events: vec![event] };
//! let appended = log.append(vec![transaction], None).await?;
//! assert_eq!(log.durable_seq(), appended.last_seq);
//! let batch = log.read(Seq::FIRST, 1 << 20)?;
//! assert_eq!(batch.decode_records()?[0].event.key, Key::from("ada"));
//! log.close().await?;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Map: [`value`], [`order`], [`record`] and [`raw`] are what is kept, [`chain`] the hash that stands for it; [`log`] (append, read, trim) over `writer`,
//! [`frame`], [`segment`], [`recovery`] and [`storage`] is how; [`read_only`] and
//! [`mod@verify`] look without touching;
//! [`wire`] is what travels. It knows nothing of SurrealDB, redb or HTTP.

/// Every byte on disk.
#[doc = include_str!("../FORMAT.md")]
pub mod format {}

pub mod archive;
pub mod ballast;
pub mod chain;
pub mod compress;
pub mod config;
pub mod durable;
pub mod error;
pub mod event_log;
pub mod frame;
pub mod json;
pub mod latency;
mod lead;
pub mod log;
mod map;
mod nice;
pub mod order;
pub mod raw;
pub mod read_only;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod scrub;
pub mod segment;
pub mod seq;
mod shared;
#[cfg(feature = "sim")]
pub mod step;
pub mod storage;
mod tail;
pub mod text;
pub mod value;
pub mod verify;
pub mod wire;
mod writer;

pub use archive::{Archive, DirArchive, Sealed};
pub use chain::{Anchor, ChainHash};
pub use compress::CompressStats;
pub use config::{LogConfig, Witnesses};
pub use durable::DurableSeq;
pub use error::{Corruption, Error, ErrorKind};
pub use event_log::EventLog;
pub use log::{Appended, Log, LogStats, TrimReport};
pub use order::{encode_key, encode_value};
pub use raw::{RawChange, RawRecord, RawRow};
pub use read_only::{Frames, Located, LocatedFrame, ReadOnlyLog, SegmentInfo, SegmentUse};
pub use reader::Reader;
pub use record::{
    DecodeError, Event, Op, Record, SourcePos, Transaction, decode_record, encode_parts,
    encode_record,
};
pub use recovery::RecoveryReport;
pub use scrub::ScrubStats;
pub use segment::header::LogId;
pub use seq::Seq;
pub use value::{Key, RecordId, Value};
pub use verify::{Finding, VerifyReport, verify, verify_anchors};
pub use wire::{RowsItem, SnapshotItem, SnapshotRow, WireBatch, WireError};
