//! A replica that is killed at any moment opens at a whole transaction and catches up from the log.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use revenant_log::Seq;
use revenant_replica::{Replica, ReplicaConfig};

use crate::model::{LOG, records, rows, stream};

#[test]
fn a_killed_replica_opens_at_its_checkpoint_and_the_log_replays_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let config = ReplicaConfig::default();
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let stream = stream(seed, 80);
        let all = records(&stream.transactions, Seq::FIRST);
        let mut path = dir.path().join(format!("{seed}"));
        let (mut replica, _) = Replica::open(&path, LOG, &config).unwrap();
        for end in stream.rows.keys().skip(1) {
            let end_index = usize::try_from(end.0).unwrap();
            replica.apply(&all[..end_index]).unwrap();
            match random.random_range(0..10) {
                0 => assert_eq!(replica.checkpoint().unwrap(), *end),
                1 => {
                    // What is in the file now is what a kill leaves, as its pages outlive the process.
                    let at_least = replica.checkpoint_seq();
                    path = dir.path().join(format!("{seed}-{end}"));
                    std::fs::copy(replica.path(), &path).unwrap();
                    let (killed, report) = Replica::open(&path, LOG, &config).unwrap();
                    assert!(report.moved_aside.is_none(), "seed {seed} seq {end}: {report:?}");
                    let applied = killed.applied_seq();
                    assert!(applied >= at_least, "seed {seed} seq {end}");
                    let found = rows(&killed.snapshot().unwrap(), 9);
                    assert_eq!(found, stream.rows[&applied], "seed {seed} seq {end}");
                    killed.apply(&all[..end_index]).unwrap();
                    replica = killed;
                }
                _ => {}
            }
            assert_eq!(rows(&replica.snapshot().unwrap(), 9), stream.rows[end]);
        }
    }
}
