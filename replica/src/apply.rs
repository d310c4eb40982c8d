//! From record to row change. Pure: no I/O.

use revenant_log::{Event, Op};

use crate::tables::Row;

/// What an event does to its row.
pub(crate) enum Change {
    /// The row is now so.
    Put(Row),
    /// The row is gone.
    Remove,
    /// Nothing: the event came late and something newer is known.
    Keep,
}

/// What `event` does, whatever was there before: applying it again changes nothing more.
pub(crate) fn change(event: &Event) -> Change {
    if event.stale {
        return Change::Keep;
    }
    match (&event.body, event.op) {
        (_, Op::Delete) | (None, _) => Change::Remove,
        (Some(body), _) => Change::Put(Row {
            key: event.key.clone(),
            version: event.version,
            source: event.source,
            body: body.clone(),
        }),
    }
}
