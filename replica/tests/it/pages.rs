//! Pages for the wire hold the rows of the snapshot, each once, in order, and prove that none is missing.

use revenant_log::{Key, Seq, SnapshotItem};
use revenant_replica::{Replica, ReplicaConfig, Scan, Snapshot};

use crate::model::{LOG, Rows, apply, records, rows, stream};

/// All rows of a snapshot as the wire carries them, with the number of pages.
fn wired(snapshot: &Snapshot, max_rows: usize, max_bytes: usize) -> (Rows, usize) {
    let (mut rows, mut pages) = (Rows::new(), 0);
    for stat in snapshot.tables().unwrap() {
        let (mut scan, mut last): (_, Option<Key>) = (Scan::new(&stat.name), None);
        while let Some(item) = snapshot.next_page(&mut scan, max_rows, max_bytes).unwrap() {
            assert!(item.count() <= max_rows && !item.is_empty());
            let SnapshotItem::Rows { table, rows: page } =
                SnapshotItem::decode(&item.encode()).unwrap()
            else {
                panic!("no rows")
            };
            assert_eq!(table, stat.name);
            pages += 1;
            for row in page {
                assert!(last.as_ref().is_none_or(|last| *last < row.key), "out of order");
                last = Some(row.key.clone());
                rows.insert((table.clone(), row.key), (row.version, row.body.to_string()));
            }
        }
        assert_eq!(scan.rows(), stat.rows);
        assert!(snapshot.next_page(&mut scan, 1, 1).unwrap().is_none(), "it stays at its end");
    }
    (rows, pages)
}

#[test]
fn pages_for_the_wire_hold_every_row_once_whatever_their_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = Replica::open(dir.path().join("r"), LOG, &ReplicaConfig::default()).unwrap();
    let stream = stream(41, 200);
    let all = records(&stream.transactions, Seq::FIRST);
    for end in stream.rows.keys().step_by(17) {
        apply(&replica, &all[..usize::try_from(end.0).unwrap()]).unwrap();
        let snapshot = replica.snapshot().unwrap();
        let expected = &stream.rows[end];
        assert_eq!(rows(&snapshot, 5), *expected);
        for (max_rows, max_bytes) in
            [(1, 1 << 20), (3, 1 << 20), (100, 1), (100, 40), (100, 1 << 20)]
        {
            let (found, pages) = wired(&snapshot, max_rows, max_bytes);
            assert_eq!(found, *expected, "{max_rows} rows, {max_bytes} bytes");
            assert!(pages >= expected.len().div_ceil(max_rows));
        }
    }
}

#[test]
fn a_table_without_rows_has_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = Replica::open(dir.path().join("r"), LOG, &ReplicaConfig::default()).unwrap();
    let snapshot = replica.snapshot().unwrap();
    assert!(snapshot.next_page(&mut Scan::new("nothing"), 9, 9).unwrap().is_none());
}
