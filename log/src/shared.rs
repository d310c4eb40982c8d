//! What the writer publishes and readers see: segments, the ring, and how far all is durable.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;

use crate::chain::Anchor;
use crate::error::Error;
use crate::latency::Latency;
use crate::segment::handle::Segment;
use crate::segment::header::LogId;
use crate::seq::Seq;
use crate::storage::Storage;
use crate::tail::{Records, Ring};
use crate::wire::WireBatch;

/// Everything that readers need.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) id: LogId,
    pub(crate) epoch: u64,
    segments: RwLock<Vec<Arc<Segment>>>,
    /// Held by whoever removes or replaces files of segments in use.
    files: Mutex<()>,
    ring: Mutex<Ring>,
    /// How long syncs of groups took.
    pub(crate) syncs: Latency,
    durable: watch::Sender<Seq>,
    first_seq: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        id: LogId,
        epoch: u64,
        segments: Vec<Arc<Segment>>,
        bounds: (Seq, Seq),
        ring_bytes: usize,
    ) -> Self {
        Self {
            storage,
            id,
            epoch,
            segments: RwLock::new(segments),
            files: Mutex::default(),
            ring: Mutex::new(Ring::new(ring_bytes)),
            syncs: Latency::default(),
            durable: watch::Sender::new(bounds.1),
            first_seq: AtomicU64::new(bounds.0.0),
        }
    }

    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change_segments(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>)) {
        change(&mut self.segments.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// For removing or replacing files of segments in use; see [`Shared::replace`].
    pub(crate) fn files(&self) -> std::sync::MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `segment` is one of the log's: not trimmed, nor replaced by another of its number.
    pub(crate) fn has(&self, segment: &Arc<Segment>) -> bool {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.iter().any(|one| Arc::ptr_eq(one, segment))
    }

    /// Lets readers that come from now on read `new` in the place of `old`, which is one of the log's while the
    /// caller holds the files.
    pub(crate) fn replace(&self, old: &Arc<Segment>, new: Segment) {
        self.change_segments(|segments| {
            if let Some(place) = segments.iter_mut().find(|one| Arc::ptr_eq(one, old)) {
                *place = Arc::new(new);
            }
        });
    }

    pub(crate) fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn durable_seq(&self) -> Seq {
        *self.durable.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Seq> {
        self.durable.subscribe()
    }

    /// Publishes that all up to `seq` is durable.
    pub(crate) fn advance(&self, seq: Seq) {
        self.durable.send_if_modified(|durable| {
            assert!(seq >= *durable, "durable seq went back from {durable} to {seq}");
            let moved = seq > *durable;
            *durable = seq;
            moved
        });
    }

    pub(crate) fn first_seq(&self) -> Seq {
        Seq(self.first_seq.load(Ordering::Acquire))
    }

    pub(crate) fn set_first_seq(&self, seq: Seq) {
        self.first_seq.fetch_max(seq.0, Ordering::AcqRel);
    }

    /// Durable records from `from` on; see [`crate::log::Log::read`].
    pub(crate) fn read(&self, from: Seq, max_bytes: usize) -> Result<WireBatch, Error> {
        let from = from.max(Seq::FIRST);
        let first = self.first_seq();
        if from < first {
            return Err(Error::Trimmed { first });
        }
        let durable = self.durable_seq();
        let mut batch = WireBatch {
            log_id: self.id,
            epoch: self.epoch,
            prev_seq: from.prev(),
            first_seq: from,
            records: Vec::new(),
        };
        if from > durable {
            return Ok(batch);
        }
        let recent = self.ring().read(from, max_bytes);
        batch.records = match recent {
            Some(records) => records,
            None => self.read_segments(from, max_bytes)?,
        };
        let durable_count = usize::try_from(durable.0 - from.0 + 1).unwrap_or(usize::MAX);
        batch.records.truncate(durable_count);
        assert!(!batch.records.is_empty(), "seq {from} is durable up to {durable} but not found");
        Ok(batch)
    }

    /// See [`crate::log::Log::anchor`].
    pub(crate) fn anchor(&self, seq: Seq) -> Result<Anchor, Error> {
        let (first, last) = (self.first_seq(), self.durable_seq());
        if seq > last {
            return Err(Error::BadInput(format!("there is no seq {seq}, the log ends at {last}")));
        }
        if seq < first.prev() {
            return Err(Error::Trimmed { first });
        }
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.base_seq <= seq);
        let hash = segments[after.saturating_sub(1)].chain_at(seq);
        if hash.is_err() && seq < self.first_seq().prev() {
            return Err(Error::Trimmed { first: self.first_seq() }); // trimmed meanwhile
        }
        Ok(Anchor { seq, hash: hash? })
    }

    fn read_segments(&self, from: Seq, max_bytes: usize) -> Result<Vec<Bytes>, Error> {
        let mut records = Records::new(from, max_bytes);
        let mut next = self.segment(|segment| segment.base_seq <= from);
        while let Some(segment) = next {
            let result = segment.read(from, &mut records);
            if result.is_err() && from < self.first_seq() {
                break; // trimmed meanwhile
            }
            if !result? {
                break;
            }
            let number = segment.header.number + 1;
            next = self.segment(|segment| segment.header.number <= number);
            next = next.filter(|segment| segment.header.number == number);
        }
        if records.taken.is_empty() && from < self.first_seq() {
            return Err(Error::Trimmed { first: self.first_seq() });
        }
        Ok(records.taken)
    }

    /// The last segment of which `low` holds; it holds of the first ones.
    pub(crate) fn segment(&self, low: impl FnMut(&Arc<Segment>) -> bool) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(low);
        segments.get(after.checked_sub(1)?).cloned()
    }
}
