//! A record as a line of text or of JSON. Fields of the JSON are stable; more may be added.

use std::io;

use revenant_log::{Located, Op};
use serde_json::json;

use crate::out::{Out, time};

/// The word for an operation.
pub(super) fn word(op: Op) -> &'static str {
    match op {
        Op::Create => "create",
        Op::Update => "update",
        Op::Delete => "delete",
        Op::Load => "load",
        Op::Reconcile => "reconcile",
    }
}

/// Prints a record.
pub(super) fn record(out: &mut Out, json: bool, located: &Located) -> io::Result<()> {
    let (record, event) = (&located.record, &located.record.event);
    if !json {
        let body = event.body.as_ref().map_or(String::new(), |body| format!(" {body}"));
        let (seq, op, id) = (record.seq, word(event.op), event.record_id());
        let end = if record.ends_transaction { "." } else { " " };
        return out.line(format_args!("{seq}{end} {} {op} {id}{body}", time(record.time_us)));
    }
    out.json(&json!({
        "seq": record.seq,
        "time": time(record.time_us),
        "op": word(event.op),
        "table": event.table,
        "id": event.record_id().to_string(),
        "version": event.version,
        "body": event.body.as_ref().map(|body| body.to_json()),
        "before": event.before.as_ref().map(|before| before.to_json()),
        "versionstamp": event.source.versionstamp,
        "ordinal": event.source.ordinal,
        "stale": event.stale,
        "ends_transaction": record.ends_transaction,
        "bytes": located.bytes.len(),
        "segment": located.segment,
        "offset": located.offset,
    }))
}
