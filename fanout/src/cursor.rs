//! `Cursor`: how far an SSP is, durably, and all of them together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use revenant_log::Seq;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::{Change, Store};

/// The durable position of one SSP: no restart of it needs a record up to and with `acked_seq`.
///
/// - Within a registration it never moves back.
/// - It never passes the log's durable seq: [`Cursors::ack`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The registration it belongs to.
    pub epoch: u64,
    /// The last seq acked.
    pub acked_seq: Seq,
}

/// The cursors of all SSPs.
pub struct Cursors {
    store: Arc<Store>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// As told.
    told: BTreeMap<String, Cursor>,
    /// As on disk; the lowest of these protects the log.
    kept: BTreeMap<String, Cursor>,
}

impl Cursors {
    /// The cursors that were kept.
    #[must_use]
    pub fn new(store: Arc<Store>, kept: BTreeMap<String, Cursor>) -> Self {
        Self { store, inner: Mutex::new(Inner { told: kept.clone(), kept }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The durable cursor of `ssp_id`.
    #[must_use]
    pub fn get(&self, ssp_id: &str) -> Option<Cursor> {
        self.inner().kept.get(ssp_id).copied()
    }

    /// All durable cursors.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Cursor> {
        self.inner().kept.clone()
    }

    /// What a new registration begins with, to be kept by the caller; protects the log from now on.
    pub fn begin(&self, ssp_id: &str, cursor: Cursor) -> Change {
        let mut inner = self.inner();
        inner.told.insert(ssp_id.to_owned(), cursor);
        inner.kept.insert(ssp_id.to_owned(), cursor);
        Change::Cursor(ssp_id.to_owned(), Some(cursor))
    }

    /// Takes an ack of registration `epoch`; durable on return. A lower one than before changes nothing.
    ///
    /// # Errors
    /// The store fails.
    pub async fn ack(&self, ssp_id: &str, epoch: u64, seq: Seq) -> Result<(), Error> {
        let cursor = {
            let mut inner = self.inner();
            let Some(told) = inner.told.get_mut(ssp_id).filter(|told| told.epoch == epoch) else {
                return Ok(());
            };
            told.acked_seq = told.acked_seq.max(seq);
            *told
        };
        let known = |kept: &Cursor| kept.epoch == epoch && kept.acked_seq >= cursor.acked_seq;
        if self.get(ssp_id).is_some_and(|kept| known(&kept)) {
            return Ok(());
        }
        self.store.keep_soon(vec![Change::Cursor(ssp_id.to_owned(), Some(cursor))]).await?;
        let mut inner = self.inner();
        if let Some(kept) = inner.kept.get_mut(ssp_id).filter(|kept| kept.epoch == epoch) {
            kept.acked_seq = kept.acked_seq.max(cursor.acked_seq);
        }
        Ok(())
    }

    /// Forgets the cursor of an SSP that is given up.
    pub fn forget(&self, ssp_id: &str) -> Change {
        let mut inner = self.inner();
        inner.told.remove(ssp_id);
        inner.kept.remove(ssp_id);
        Change::Cursor(ssp_id.to_owned(), None)
    }
}
