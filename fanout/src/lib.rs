//! The scheduler: captures what a database commits, keeps it in the log, and hands every record to every
//! SSP, in order, across restarts.
//!
//! - What is captured is in the log once, however often the feed is read and whenever the process dies.
//! - An SSP's cursor is durable; the log is never trimmed past one that protects it.
//! - A view has one owner at a time; who owned it before is fenced by a higher epoch.
//!
//! Map: [`scheduler`] opens the parts and runs them. [`source`] is the door to the database, [`capture`]
//! reads it, [`window`] knows what was read, [`journal`] appends; [`clone`] loads tables, [`reconcile`]
//! compares them, [`claim`] takes pushed events. [`registry`] knows SSPs ([`member`]), their [`cursor`]s
//! and who owns which view ([`assign`]); [`deliver`] calls them, [`feed`] and [`snapshot`] are read by them.
//! [`retention`] trims, [`store`] remembers, `receipt` has it remember the log, `http` answers. It evaluates no view and knows nothing of
//! SurrealDB's client.

pub mod assign;
pub mod backend;
pub mod capture;
pub mod claim;
pub mod clone;
pub mod config;
pub mod cursor;
pub mod deliver;
pub mod error;
pub mod feed;
mod http;
pub mod journal;
mod lock;
pub mod member;
pub mod post;
mod receipt;
pub mod reconcile;
pub mod registry;
pub mod retention;
pub mod rows;
pub mod scheduler;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod tables;
pub mod window;

pub use config::{Config, ConfigError, Database, Secret, Transport};
pub use error::{Error, ErrorKind};
pub use scheduler::{Phase, QueryRows, Running, Scheduler};
pub use source::{
    ChangePage, FeedTime, Source, SourceError, SourceRow, SourceTable, SourceTransaction,
};
