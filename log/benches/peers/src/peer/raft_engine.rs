//! raft-engine: entries of a raft group, whose index is the record's number.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use protobuf::well_known_types::Any;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Failure, Peer, Size};
use crate::body::{Body, body};

/// Entries carry their index in the first 8 bytes of their body.
struct Indexed;

impl MessageExt for Indexed {
    type Entry = Any;

    fn index(entry: &Any) -> u64 {
        entry.value.get(..8).and_then(|at| at.try_into().ok()).map_or(0, u64::from_be_bytes)
    }
}

struct RaftEngine {
    engine: Engine,
    /// Indexes of a group follow each other, so that callers of one log need a group each.
    next: Mutex<HashMap<u64, u64>>,
}

/// Opens it.
pub fn open(dir: &Path, size: Size) -> Result<Arc<dyn Peer>, Failure> {
    let mut config = Config {
        dir: dir.to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize(0),
        recovery_threads: 2,
        ..Config::default()
    };
    if size == Size::Small {
        config.target_file_size = ReadableSize::mb(1);
    }
    Ok(Arc::new(RaftEngine { engine: Engine::open(config)?, next: Mutex::default() }))
}

fn entry(index: u64, body: &Body) -> Any {
    let mut entry = Any::new();
    entry.value = body.to_vec();
    entry.value[..8].copy_from_slice(&index.to_be_bytes());
    entry
}

impl RaftEngine {
    fn write(&self, group: u64, entries: &[Any], sync: bool) -> Result<(), Failure> {
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Indexed>(group, entries)?;
        self.engine.write(&mut batch, sync)?;
        Ok(())
    }
}

impl Peer for RaftEngine {
    fn append(&self, caller: u64, _: u64, body: &Body) -> Result<(), Failure> {
        let group = caller + 1;
        let index = {
            let mut next = self.next.lock().expect("no caller panicked");
            let next = next
                .entry(group)
                .or_insert_with(|| self.engine.last_index(group).map_or(1, |last| last + 1));
            *next += 1;
            *next - 1
        };
        self.write(group, &[entry(index, body)], true)
    }

    fn append_all(&self, first: u64, bodies: &[Body]) -> Result<(), Failure> {
        let entries: Vec<_> = (first..).zip(bodies).map(|(at, body)| entry(at, body)).collect();
        self.write(1, &entries, true)
    }

    fn pour(&self, first: u64, count: u64) -> Result<(), Failure> {
        (first..first + count)
            .try_for_each(|number| self.write(1, &[entry(number, &body(number))], false))?;
        Ok(self.engine.sync()?)
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (self.engine.first_index(1), self.engine.last_index(1))
        else {
            return Ok(());
        };
        let mut entries: Vec<Any> = Vec::new();
        for from in (first..=last).step_by(1024) {
            entries.clear();
            let to = (from + 1024).min(last + 1);
            self.engine.fetch_entries_to::<Indexed>(1, from, to, None, &mut entries)?;
            (from..).zip(&entries).for_each(|(number, entry)| see(number, &entry.value));
        }
        Ok(())
    }

    fn get(&self, number: u64, see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let entry = self.engine.get_entry::<Indexed>(1, number)?;
        Ok(entry.inspect(|entry| see(&entry.value)).is_some())
    }

    fn close(&self) -> Result<(), Failure> {
        Ok(self.engine.sync()?)
    }
}
