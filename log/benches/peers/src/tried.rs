//! What was tried for ratios that are missed, with the figures of that day: one machine of two cores that others
//! loaded at the same time, engines in the real-time class. Printed beneath the lane, so that nobody tries it again
//! without knowing.

use crate::table::{Row, Table};

/// Lane, figure, approach.
const TRIED: &[(&str, &str, &str)] = &[
    (
        "S",
        "1.3 to 1.45x",
        "batches of counted slices of the map, one for each record (`Log::read`)",
    ),
    (
        "S",
        "2.1 to 2.2x",
        "records lent from the map (`Log::reader`), first after opening: 14 of 21 ms populate maps",
    ),
    (
        "S",
        "3.2x",
        "the same with the maps in place; a part is still read with pread from the active segment",
    ),
    ("S", "5.3x", "the most for one thread: the checksum alone, 15.1 GB/s next to 2.85 GB/s"),
    ("A1 N=1", "0.67, 0.67", "the writer sleeps between groups"),
    ("A1 N=1", "0.65, 0.52", "the writer spins up to 30 us for the caller that it answered"),
    (
        "A1 N=1",
        "0.68, 0.60",
        "the writer spins up to 60 us: p50 250 instead of 280 us, within the noise",
    ),
];

/// Prints what was tried for `lane`.
pub fn print(lane: &str, table: &mut Table) {
    for (_, figure, approach) in TRIED.iter().filter(|(of, _, _)| *of == lane) {
        table.add(Row {
            detail: (*approach).into(),
            ..Row::words(&format!("{lane} tried"), "revenant-log", *figure)
        });
    }
}
