//! The scheduler: captures what a database commits, keeps it in the log, and hands every record to every
//! SSP, in order, across restarts.

pub mod source;

pub use source::{
    ChangePage, FeedTime, Source, SourceError, SourceRow, SourceTable, SourceTransaction,
};
