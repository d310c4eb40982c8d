//! Every log under one interface: records have numbers from 1 on and bodies of one length.

pub mod fjall;
pub mod nats;
pub mod okaywal;
pub mod ours;
pub mod postgres;
pub mod raft_engine;
pub mod redb;
pub mod redis;
pub mod server;
pub mod spacetimedb;
pub mod surrealkv;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use crate::body::Body;

/// What went wrong, as the engine says it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An append that is under way.
pub type Appending<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// A log that is open.
pub trait Peer: Send + Sync {
    /// Appends one record; durable on return. Callers are numbered from 0.
    fn append(&self, caller: u64, number: u64, body: &Body) -> Result<(), Failure>;

    /// The same, for engines whose own interface is asynchronous.
    fn append_async(&self, _caller: u64, _number: u64, _body: &Body) -> Option<Appending<'_>> {
        None
    }

    /// Appends records from `first` on as one atomic append; durable on return.
    fn append_all(&self, first: u64, bodies: &[Body]) -> Result<(), Failure>;

    /// A single producer hands over `count` records from `first` on, one by one, waiting for none of them,
    /// and then for all.
    fn pour(&self, _first: u64, _count: u64) -> Result<(), Failure> {
        Err(ABSENT.into())
    }

    /// Shows every record's number and body, in order.
    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure>;

    /// The same, and every part of a record looked at, not only its body.
    fn verify(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        self.scan(see)
    }

    /// Shows one record's body; false if there is no such record.
    fn get(&self, _number: u64, _see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        Err(ABSENT.into())
    }

    /// Stops cleanly.
    fn close(&self) -> Result<(), Failure>;
}

/// What an engine says that has no such interface.
pub const ABSENT: &str = "no such interface";

/// How an engine is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As for production.
    Full,
    /// Small files, so that thousands of copies can be damaged and a small disk is filled by records.
    Small,
}

/// Opens or creates a log in a directory that exists.
pub type Open = fn(&Path, Size) -> Result<Arc<dyn Peer>, Failure>;

/// An engine that can be measured.
#[derive(Clone, Copy)]
pub struct Engine {
    /// As the table calls it.
    pub name: &'static str,
    /// Opens it.
    pub open: Open,
    /// What a reader of the table must know.
    pub note: &'static str,
    /// It is a server of its own.
    pub service: bool,
    /// It syncs before it acknowledges.
    pub durable: bool,
}

/// All engines; ours first.
pub const ENGINES: &[Engine] = &[
    Engine {
        name: "revenant-log",
        open: ours::open,
        note: "this repository",
        service: false,
        durable: true,
    },
    Engine {
        name: "surrealkv+prealloc",
        open: surrealkv::open_preallocated,
        note: "1.2.0, Durability::Immediate, with_wal_preallocation(true)",
        service: false,
        durable: true,
    },
    Engine {
        name: "surrealkv",
        open: surrealkv::open,
        note: "1.2.0, Durability::Immediate",
        service: false,
        durable: true,
    },
    Engine {
        name: "spacetimedb-commitlog",
        open: spacetimedb::open,
        note: "1.3.0 with one writing thread that drains, flushes and syncs once, as spacetimedb-durability 2.14 does",
        service: false,
        durable: true,
    },
    Engine {
        name: "raft-engine",
        open: raft_engine::open,
        note: "0.4.2, sync writes, no compression, one raft group for each caller",
        service: false,
        durable: true,
    },
    Engine {
        name: "okaywal",
        open: okaywal::open,
        note: "0.3.1, no checkpoints",
        service: false,
        durable: true,
    },
    Engine {
        name: "fjall",
        open: fjall::open,
        note: "3.1.13, batches with PersistMode::SyncData",
        service: false,
        durable: true,
    },
    Engine {
        name: "redb",
        open: redb::open,
        note: "4.4.0, Durability::Immediate",
        service: false,
        durable: true,
    },
    Engine {
        name: "redis",
        open: redis::open,
        note: "XADD, appendfsync always, unix socket",
        service: true,
        durable: true,
    },
    Engine {
        name: "postgresql",
        open: postgres::open,
        note: "prepared INSERT, synchronous_commit on, wal_sync_method fdatasync, unix socket",
        service: true,
        durable: true,
    },
    Engine {
        name: "nats",
        open: nats::open,
        note: "JetStream publish and ack, loopback; acknowledges before it syncs",
        service: true,
        durable: false,
    },
];

/// The engine of that name.
pub fn named(name: &str) -> Option<Engine> {
    ENGINES.iter().copied().find(|engine| engine.name == name)
}

/// The runtime that asynchronous engines share.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("start the runtime")
    })
}
