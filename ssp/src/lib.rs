//! Live views, kept up to date by deltas: a sidecar that follows the log and writes what changes in
//! the results of registered queries back to SurrealDB.
//!
//! - Every record is applied once, in order, in whole transactions; what half arrived changes nothing.
//! - A registration is answered when its row and its edges are stored.
//! - Edges are written in batches with the position they cover, repeated until they are stored, and
//!   never by an SSP that no longer owns the view.
//! - After a restart the stored edges are compared with the views, and only differences are written.
//!
//! ```no_run
//! use std::sync::Arc;
//! use revenant_ssp::{Config, Ssp, edge::EdgeSink, requery::Requery};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn run(sink: Arc<dyn EdgeSink>, requery: Arc<dyn Requery>) -> Result<(), revenant_ssp::Error> {
//! let shutdown = CancellationToken::new();
//! let ssp = Ssp::start(Config::from_env()?, sink, requery, shutdown.clone()).await?;
//! println!("listening on {}", ssp.addr());
//! ssp.stopped().await;
//! # Ok(())
//! # }
//! ```
//!
//! Map: [`service`] starts everything and registers with the scheduler; `session` is one registration:
//! `bootstrap` loads the snapshot, `feed` receives records, `sequencer` is the thread that owns the
//! engine, [`edge`] and `outbox` write, [`requery`] and `rerun` are for queries that the engine cannot
//! maintain, `views` takes views in and gives them up, `ttl` sweeps; `http` answers.
//!
//! Absent: the log is never written here, and SurrealDB is reached through the two traits alone.

pub mod config;
pub mod edge;
pub mod engine;
pub mod error;
pub mod requery;
pub mod service;

mod bootstrap;
mod feed;
mod http;
mod load;
mod outbox;
mod plan;
pub mod query;
mod registration;
mod rerun;
mod scheduler;
mod sequencer;
mod session;
mod status;
mod ttl;
mod views;

pub use config::Config;
pub use error::{Error, ErrorKind};
pub use service::{Running, Ssp};
pub use status::State;
