//! A log without threads, for tests that crash it between any two calls to the disk (feature `sim`).

use std::sync::Arc;

use crate::chain::Anchor;
use crate::compress::{Outcome, compress};
use crate::config::{LogConfig, Witnesses};
use crate::error::Error;
use crate::log::Appended;
use crate::reader::Reader;
use crate::record::Transaction;
use crate::recovery::{RecoveryReport, open_for_writing};
use crate::seq::Seq;
use crate::shared::Shared;
use crate::storage::{Lock, Storage};
use crate::wire::WireBatch;
use crate::writer::{Prepared, Writer};

/// A log whose every step happens when it is called for.
pub struct StepLog {
    writer: Writer,
    _lock: Box<dyn Lock>,
}

impl StepLog {
    /// See [`crate::Log::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(
        storage: Arc<dyn Storage>,
        config: LogConfig,
        witnesses: &Witnesses,
    ) -> Result<(Self, RecoveryReport), Error> {
        config.check()?;
        let (lock, recovered) = open_for_writing(storage.as_ref(), &config, witnesses)?;
        let active = Arc::clone(recovered.segments.last().expect("recovery returns one"));
        let shared = Arc::new(Shared::new(
            storage,
            recovered.id,
            recovered.epoch,
            recovered.segments,
            (recovered.first_seq, recovered.next_seq.prev()),
            config.ring_bytes,
        ));
        let writer = Writer::new(config, shared, active, recovered.next_seq);
        Ok((Self { writer, _lock: lock }, recovered.report))
    }

    /// Appends `transactions` as one group if they fit one; durable on return.
    ///
    /// # Errors
    /// As [`crate::Log::append`].
    pub fn append(&mut self, transactions: &[Transaction]) -> Result<Appended, Error> {
        let first_seq = self.writer.next_seq();
        let prepared: Vec<_> = transactions.iter().map(Prepared::new).collect::<Result<_, _>>()?;
        let mut taken = 0;
        while taken < prepared.len() {
            taken += self.writer.commit(prepared[taken..].iter())?;
        }
        Ok(Appended { first_seq, last_seq: self.writer.next_seq().prev() })
    }

    /// Prepares the next segment and seals the full ones, as the keeper does.
    ///
    /// # Errors
    /// As [`crate::Log::append`].
    pub fn keep(&mut self) -> Result<(), Error> {
        self.writer.check()?;
        let shared = Arc::clone(&self.writer.shared);
        self.writer.spare.keep(shared.storage.as_ref(), &self.writer.config, shared.id)?;
        let active = self.writer.active_number();
        shared
            .segments()
            .iter()
            .filter(|segment| segment.header.number < active)
            .try_for_each(|segment| segment.seal(shared.storage.as_ref()))
    }

    /// Compresses every sealed segment that shrinks, as the thread for it does; how many that were.
    ///
    /// # Errors
    /// As [`crate::Log::append`], and [`Error::Corrupt`] if one is damaged.
    pub fn compress(&mut self, level: i32) -> Result<usize, Error> {
        let shared = Arc::clone(&self.writer.shared);
        let mut count = 0;
        for segment in shared.segments() {
            let sealed = segment.with_state(|state| state.sealed);
            if sealed && segment.compressed_bytes.is_none() {
                let outcome = compress(&shared, &segment, level, &|| true)?;
                count += usize::from(outcome == Outcome::Compressed);
            }
        }
        Ok(count)
    }

    /// See [`crate::Log::trim`].
    ///
    /// # Errors
    /// As there.
    pub fn trim(&mut self, before: Seq) -> Result<(), Error> {
        self.writer.trim_segments(before, u64::MAX).map(|_| ())
    }

    /// Leaves an unsynced mark, as after a while without appends.
    ///
    /// # Errors
    /// As [`crate::Log::append`].
    pub fn idle(&mut self) -> Result<(), Error> {
        self.writer.mark_idle()
    }

    /// A clean stop.
    ///
    /// # Errors
    /// As [`crate::Log::append`].
    pub fn close(mut self) -> Result<(), Error> {
        self.writer.mark_end()
    }

    /// See [`crate::Log::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, from: Seq, max_bytes: usize) -> Result<WireBatch, Error> {
        self.writer.shared.read(from, max_bytes)
    }

    /// See [`crate::Log::reader`].
    #[must_use]
    pub fn reader(&self, from: Seq) -> Reader {
        Reader::new(Arc::clone(&self.writer.shared), from)
    }

    /// See [`crate::Log::anchor`].
    ///
    /// # Errors
    /// As there.
    pub fn anchor(&self, seq: Seq) -> Result<Anchor, Error> {
        self.writer.shared.anchor(seq)
    }

    /// See [`crate::Log::durable_seq`].
    #[must_use]
    pub fn durable_seq(&self) -> Seq {
        self.writer.shared.durable_seq()
    }

    /// See [`crate::Log::first_seq`].
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.writer.shared.first_seq()
    }
}
