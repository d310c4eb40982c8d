//! redb: a table from number to body.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Failure, Peer, Size};
use crate::body::{Body, body};

const RECORDS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("records");

struct Redb(Database);

/// Opens it.
pub fn open(dir: &Path, _: Size) -> Result<Arc<dyn Peer>, Failure> {
    let peer = Redb(Database::create(dir.join("records.redb"))?);
    peer.put(0, &[], Durability::Immediate)?;
    Ok(Arc::new(peer))
}

impl Redb {
    fn put(&self, first: u64, bodies: &[Body], how: Durability) -> Result<(), Failure> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(how)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (number, body) in (first..).zip(bodies) {
                records.insert(number, body.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Peer for Redb {
    fn append(&self, _: u64, number: u64, body: &Body) -> Result<(), Failure> {
        self.put(number, &[*body], Durability::Immediate)
    }

    fn append_all(&self, first: u64, bodies: &[Body]) -> Result<(), Failure> {
        self.put(first, bodies, Durability::Immediate)
    }

    fn pour(&self, first: u64, count: u64) -> Result<(), Failure> {
        let last = first + count - 1;
        (first..last).try_for_each(|number| self.put(number, &[body(number)], Durability::None))?;
        self.put(last, &[body(last)], Durability::Immediate)
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        let records = self.0.begin_read()?.open_table(RECORDS)?;
        for item in records.iter()? {
            let (number, body) = item?;
            see(number.value(), body.value());
        }
        Ok(())
    }

    fn get(&self, number: u64, see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let records = self.0.begin_read()?.open_table(RECORDS)?;
        Ok(records.get(number)?.inspect(|body| see(body.value())).is_some())
    }

    fn close(&self) -> Result<(), Failure> {
        Ok(())
    }
}
