//! fjall: one key for each record, its number in big endian.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Failure, Peer, Size};
use crate::body::{Body, body};

struct Fjall {
    database: Database,
    records: Keyspace,
}

/// Opens it.
pub fn open(dir: &Path, _: Size) -> Result<Arc<dyn Peer>, Failure> {
    let database = Database::builder(dir).open()?;
    let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
    Ok(Arc::new(Fjall { database, records }))
}

impl Fjall {
    fn put(&self, first: u64, bodies: &[Body], how: Option<PersistMode>) -> Result<(), Failure> {
        let mut batch = self.database.batch().durability(how);
        for (number, body) in (first..).zip(bodies) {
            batch.insert(&self.records, number.to_be_bytes(), *body);
        }
        Ok(batch.commit()?)
    }
}

impl Peer for Fjall {
    fn append(&self, _: u64, number: u64, body: &Body) -> Result<(), Failure> {
        self.put(number, &[*body], Some(PersistMode::SyncData))
    }

    fn append_all(&self, first: u64, bodies: &[Body]) -> Result<(), Failure> {
        self.put(first, bodies, Some(PersistMode::SyncData))
    }

    fn pour(&self, first: u64, count: u64) -> Result<(), Failure> {
        (first..first + count).try_for_each(|number| self.put(number, &[body(number)], None))?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        for item in self.records.iter() {
            let (key, value) = item.into_inner()?;
            see(u64::from_be_bytes(key.as_ref().try_into()?), &value);
        }
        Ok(())
    }

    fn get(&self, number: u64, see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let value = self.records.get(number.to_be_bytes())?;
        Ok(value.inspect(|value| see(value)).is_some())
    }

    fn close(&self) -> Result<(), Failure> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}
