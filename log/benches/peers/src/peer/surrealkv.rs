//! surrealkv: one key for each record, its number in big endian.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use surrealkv::{Durability, LSMIterator as _, Options, Tree, TreeBuilder};

use super::{Appending, Failure, Peer, Size, runtime};
use crate::body::{Body, body};

struct SurrealKv(Tree);

/// Opens it without preallocation, its default.
pub fn open(dir: &Path, _: Size) -> Result<Arc<dyn Peer>, Failure> {
    open_with(dir, false)
}

/// Opens it with preallocation.
pub fn open_preallocated(dir: &Path, _: Size) -> Result<Arc<dyn Peer>, Failure> {
    open_with(dir, true)
}

fn open_with(dir: &Path, preallocate: bool) -> Result<Arc<dyn Peer>, Failure> {
    let _inside = runtime().enter();
    let options = Options::new().with_path(dir.to_owned()).with_wal_preallocation(preallocate);
    Ok(Arc::new(SurrealKv(TreeBuilder::with_options(options).build()?)))
}

impl SurrealKv {
    async fn put(&self, first: u64, bodies: &[Body], how: Durability) -> Result<(), Failure> {
        let mut transaction = self.0.begin()?.with_durability(how);
        for (number, body) in (first..).zip(bodies) {
            transaction.set(number.to_be_bytes().to_vec(), body.to_vec())?;
        }
        Ok(transaction.commit().await?)
    }
}

impl Peer for SurrealKv {
    fn append(&self, _: u64, number: u64, body: &Body) -> Result<(), Failure> {
        runtime().block_on(self.put(number, &[*body], Durability::Immediate))
    }

    fn append_async(&self, _: u64, number: u64, body: &Body) -> Option<Appending<'_>> {
        let body = *body;
        Some(Box::pin(async move { self.put(number, &[body], Durability::Immediate).await }))
    }

    fn append_all(&self, first: u64, bodies: &[Body]) -> Result<(), Failure> {
        runtime().block_on(self.put(first, bodies, Durability::Immediate))
    }

    fn pour(&self, first: u64, count: u64) -> Result<(), Failure> {
        runtime().block_on(async {
            let mut appends = futures_util::stream::iter(first..first + count)
                .map(|number| async move {
                    self.put(number, &[body(number)], Durability::Eventual).await
                })
                .buffered(64);
            while let Some(appended) = appends.next().await {
                appended?;
            }
            Ok::<_, Failure>(())
        })?;
        Ok(self.0.flush_wal(true)?)
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        let transaction = self.0.begin()?;
        let mut cursor = transaction.iter()?;
        cursor.seek_first()?;
        while cursor.valid() {
            let number = u64::from_be_bytes(cursor.key().user_key().try_into()?);
            see(number, &cursor.value()?);
            cursor.next()?;
        }
        Ok(())
    }

    fn get(&self, number: u64, see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let value = self.0.begin()?.get(number.to_be_bytes().to_vec())?;
        Ok(value.inspect(|value| see(value)).is_some())
    }

    fn close(&self) -> Result<(), Failure> {
        Ok(runtime().block_on(self.0.close())?)
    }
}
