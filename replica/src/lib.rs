//! Rows as of one seq, in redb: the snapshot that every SSP starts from and every repair compares with.
//!
//! - Rows, per-table counts and signatures, and `applied_seq` change in one commit, after whole
//!   transactions; applying a record twice is applying it once.
//! - It is never a source of truth: a damaged file is moved aside and built anew from the log.
//! - A snapshot is a read transaction: it holds still and holds nobody up.
//!
//! Map: [`replica`] opens and applies, `apply` says what a record does, `store` stores that, `tables` holds the bytes,
//! [`snapshot`] reads as `turns` allows, [`lease`] keeps snapshots for their readers, [`hash`] is upstream's table hash,
//! [`follower`] keeps up with a log, [`mod@rebuild`] starts from nothing with what `prepare` reads ahead, [`points`] judges
//! that by a model, [`mod@compare`] lists what differs,
//! `overlay` looks at a file without changing it, `doubt` remembers one that was not proven, [`proxy`] answers the statements that Sp00ky's own SSPs
//! send.

mod apply;
pub mod collapse;
mod compare;
mod doubt;
pub mod error;
pub mod follower;
pub mod hash;
pub mod lease;
mod overlay;
pub mod points;
mod prepare;
pub mod proxy;
pub mod rebuild;
pub mod replica;
pub mod snapshot;
mod store;
mod tables;
mod turns;

pub use compare::{Comparison, Difference, DifferenceKind, compare};
pub use error::Error;
pub use follower::{Pace, follow};
pub use hash::{HashCache, TableHash};
pub use lease::{Lease, Leases};
pub use points::{PointsReport, check_points};
pub use rebuild::{
    Progress, RebuildConfig, RebuildReport, TableReport, rebuild, seq_at, table_reports,
};
pub use replica::{OpenReport, Proof, Replica, ReplicaConfig};
pub use snapshot::{Scan, Snapshot, TableStat};
pub use tables::Row;
