//! A snapshot is kept as long as its reader makes progress, and no longer.

use std::time::{Duration, Instant};

use revenant_log::Seq;
use revenant_replica::{Leases, Replica, ReplicaConfig};

use crate::model::{LOG, apply, records, rows, stream};

const TERM: Duration = Duration::from_secs(10);

#[test]
fn a_lease_holds_while_pages_are_read_and_ends_when_they_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = Replica::open(dir.path().join("r"), LOG, &ReplicaConfig::default()).unwrap();
    let leases = Leases::new(TERM);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let slow = leases.grant(replica.snapshot().unwrap(), start);
    let busy = leases.grant(replica.snapshot().unwrap(), start);
    assert_ne!(slow.id, busy.id);
    assert_eq!((busy.seq, busy.deadline), (Seq::ZERO, at(10)));
    assert!(leases.renew(busy.id, busy.seq, at(9)).is_some());
    assert!(leases.renew(busy.id, busy.seq, at(3)).is_some(), "a clock that seems to go back");
    assert_eq!(leases.expire(at(10)), [slow]);
    assert!(leases.renew(slow.id, slow.seq, at(10)).is_none(), "it ended");
    assert_eq!(leases.held().iter().map(|lease| lease.deadline).collect::<Vec<_>>(), [at(19)]);
    assert!(leases.renew(busy.id, busy.seq, at(19)).is_none(), "it ends without being told");
    assert!(leases.renew(busy.id, Seq(1), at(11)).is_none(), "other rows are not what was begun");
    leases.end(busy.id);
    leases.end(busy.id);
    assert!(leases.held().is_empty());
}

#[test]
fn leased_rows_hold_still_while_rows_change() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = Replica::open(dir.path().join("r"), LOG, &ReplicaConfig::default()).unwrap();
    let stream = stream(12, 40);
    let all = records(&stream.transactions, Seq::FIRST);
    let (leases, start) = (Leases::new(TERM), Instant::now());
    let mut granted = Vec::new();
    for end in stream.rows.keys().skip(1) {
        apply(&replica, &all[..usize::try_from(end.0).unwrap()]).unwrap();
        granted.push(leases.grant(replica.snapshot().unwrap(), start));
    }
    replica.checkpoint().unwrap();
    for lease in granted {
        let snapshot = leases.renew(lease.id, lease.seq, start).unwrap();
        assert_eq!(rows(&snapshot, 7), stream.rows[&lease.seq]);
    }
}
