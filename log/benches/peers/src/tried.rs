//! What was tried for ratios that are missed or were, with the figures of that day: one machine of two cores, others
//! stopped meanwhile. Printed beneath the lane, so that nobody tries it again without knowing.

use crate::table::{Row, Table};

/// Lane, figure, approach.
const TRIED: &[(&str, &str, &str)] = &[
    (
        "S",
        "1.3 to 1.45x",
        "batches of counted slices of the map, one for each record (`Log::read`)",
    ),
    ("S", "2.7 to 3.2x", "records lent from the map (`Log::reader`), one thread"),
    (
        "S",
        "4.6x, not kept",
        "a second thread verifies ahead, of sealed segments only: nobody but this lane walked so",
    ),
    (
        "S",
        "+7 %, not kept",
        "spares written 2 MiB at a time, so that maps have huge pages: populating 192 MiB takes 0.3 instead of 3.4 ms, but every commit 20 us more",
    ),
    (
        "S",
        "+10 %, not kept",
        "4 to 16 KiB prefetched ahead of the checksum: 13.1 to 13.9 instead of 12.2 GB/s, and more unsafe code",
    ),
    ("S", "-30 %", "pread of 64 KiB to 1 MiB to a buffer and the checksum there, instead of maps"),
    (
        "S",
        "no more to have",
        "crc32fast does 98 GB/s in the cache and 11 to 13 GB/s out of it, like crc-fast; one byte of each line is read at 14 to 17 GB/s",
    ),
    (
        "A1 N=1",
        "0.70 to 0.77",
        "each append handed to the writer's thread, which sleeps between groups",
    ),
    (
        "A1 N=1",
        "0.88 to 0.92",
        "the same, awaited by a thread or by a runtime of one worker: no other worker is woken to look for more",
    ),
    (
        "A1 N=1",
        "0.55",
        "spinning 40 us before sleeping, on either side of a hand-over, in a program of its own",
    ),
    (
        "A1 N=1",
        "0.84",
        "answers by a pipe that the runtime polls, so that no other worker is woken",
    ),
    ("A1 N=1", "0.83 to 0.99", "a lone caller writes and syncs itself, as it does now"),
    ("A1 N=1", "-8 to +23 %", "pwritev2 with RWF_DSYNC instead of fdatasync: p50 the same to 3 us"),
    (
        "A1 N=1",
        "+3 to 46 %, not kept",
        "O_DIRECT and O_DSYNC, p50 88 to 116 instead of 111 to 129 us: rewrites acknowledged sectors, and readers of the tail go to the disk",
    ),
    (
        "A1 N=64",
        "1.34x spacetimedb, 1.46 to 1.76x raft-engine",
        "the writer's thread freed what callers had allocated, grew its buffers anew for each group and locked the queue five times for it",
    ),
];

/// Ratios that none of three approaches and more could reach, with what ours is to keep of them all the same: lane,
/// engine, ratio.
const OUT_OF_REACH: &[(&str, &str, f64)] = &[("S", "spacetimedb-commitlog", 2.3)];

/// Whether a ratio that is missed is one that was found to be out of reach, and is no worse than it was then.
pub fn out_of_reach(row: &Row) -> bool {
    let of = |one: &&(&str, &str, f64)| one.0 == row.lane && one.1 == row.engine;
    let least = OUT_OF_REACH.iter().find(of).map(|(.., least)| *least);
    least.zip(row.ratio).is_some_and(|(least, ratio)| ratio >= least) && row.must != Some(false)
}

/// Prints what was tried for `lane`.
pub fn print(lane: &str, table: &mut Table) {
    for (_, figure, approach) in TRIED.iter().filter(|(of, _, _)| *of == lane) {
        table.add(Row {
            detail: (*approach).into(),
            ..Row::words(&format!("{lane} tried"), "revenant-log", *figure)
        });
    }
}
